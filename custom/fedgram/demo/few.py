"""The demo's sites with few labels: rows of the embedded data, written as a hospital would have them."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from fedgram.data.sequences import read_records

_IMAGE, _DNA = "image", "genomics"


def kind_of(site: str) -> str:
    """The modality of a site with few labels, by its name: ``image`` of ``image-2``."""
    return site.partition("-")[0]


def splits_by_site(table: Path) -> dict[str, dict[str, str]]:
    """The split of every sample by id, by site, of a table with the columns ``site``, ``split`` and ``id``."""
    found: dict[str, dict[str, str]] = {}
    with table.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["site"], {})[row["id"]] = row["split"]
    return found


def write_site(site: str, splits: Mapping[str, str], source: Path, folder: Path, place: Path) -> None:
    """Write a site's samples in the format of its modality, with a column ``split``.

    Args:
        splits: by id.
        source: the embedded data of its modality.
        folder: that is written to now.
        place: that it will be later, from which a table finds its images.
    """
    if kind_of(site) == _IMAGE:
        files = {name: os.path.relpath(source / f"{name}.png", place) for name in splits}
        rows = [{"id": n, "concept": Path(n).parent.name, "group": n, "path": path} for n, path in files.items()]
    else:
        with source.with_suffix(".csv").open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row["id"] in splits]
    if kind_of(site) == _DNA:
        records = read_records(source)
        text = "".join(f">{row['id']}\n{records[row['id']]}\n" for row in rows)
        (folder / f"{site}.fasta").write_text(text, encoding="utf-8")
    with (folder / f"{site}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [*rows[0], "split"])
        writer.writeheader()
        writer.writerows({**row, "split": splits[row["id"]]} for row in rows)
