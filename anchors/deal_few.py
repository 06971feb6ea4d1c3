"""Deal the demo's data to sites with few labels each: `custom/fedgram/demo/carnivora/few.csv`.

    python anchors/deal_few.py [--output FILE]

Every site gets 4 samples of a class to train on and 4 to validate; what is left is divided for testing. Who gets
what is decided by a hash of the sample's name. No two sites of a modality have a sample in common, and a group
(species, synset, image) is on one side of the split, at whatever site.
"""

from __future__ import annotations

import argparse
import csv
import zipfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parents[1]
DATA = _ROOT / "custom" / "fedgram" / "demo" / "carnivora"
SHOTS = 4  # of a class and site, to train and to validate
LEAST_TESTED, MOST_TESTED = 20, 100  # of a class, over the sites of a modality and at one site
SITES = {"image": 4, "text": 1, "genomics": 1}


class Item(NamedTuple):
    """A sample: what it is called, shows, and belongs to."""

    id: str
    concept: str
    group: str


def read(kind: str) -> list[Item]:
    """All samples of a modality; those of images are named by their place in the archive."""
    if kind == "image":
        with zipfile.ZipFile(DATA / "image.zip") as archive:
            names = [name.removesuffix(".png") for name in archive.namelist()]
        return [Item(name, name.partition("/")[0], name) for name in names]
    with (DATA / f"{kind}.csv").open(newline="", encoding="utf-8") as file:
        return [Item(row["id"], row["concept"], row["group"]) for row in csv.DictReader(file)]


def ranked(names: Sequence[str]) -> list[str]:
    """Names in the order of a hash."""
    return sorted(names, key=lambda name: sha256(f"carnivora few|{name}".encode()).digest())


def split(items: Sequence[Item], sites: int) -> dict[str, list[Item]]:
    """The samples of one class, groups whole: enough to train, enough to validate, the rest to test."""
    groups: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        groups[item.group].append(item)
    parts: dict[str, list[Item]] = {"train": [], "validation": [], "test": []}
    for name in ranked(list(groups)):
        short = (part for part in ("train", "validation") if len(parts[part]) < SHOTS * sites)
        parts[next(short, "test")] += groups[name]
    return parts


def deal(kind: str, sites: int) -> dict[str, list[tuple[str, Item]]]:
    """The samples of each site with their split; classes that cannot be tested are left out."""
    classes: dict[str, list[Item]] = defaultdict(list)
    for item in read(kind):
        classes[item.concept].append(item)
    found: dict[str, list[tuple[str, Item]]] = {f"{kind}-{k + 1}": [] for k in range(sites)}
    for concept in sorted(classes):
        parts = split(classes[concept], sites)
        if len(parts["test"]) < LEAST_TESTED:
            continue
        for part, items in parts.items():
            order = {name: place for place, name in enumerate(ranked([item.id for item in items]))}
            own = sorted(items, key=lambda item: order[item.id])
            for k, rows in enumerate(found.values()):
                most = MOST_TESTED if part == "test" else SHOTS
                rows += [(part, item) for item in own[k::sites][:most]]
    return found


def write(path: Path, dealt: Mapping[str, Sequence[tuple[str, Item]]]) -> None:
    """Write a row for each sample and site."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("site", "split", "id"))
        writer.writerows((site, part, item.id) for site, rows in dealt.items() for part, item in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--output", type=Path, default=DATA / "few.csv")
    output: Path = parser.parse_args().output
    write(output, {site: rows for kind, sites in SITES.items() for site, rows in deal(kind, sites).items()})


if __name__ == "__main__":
    main()
