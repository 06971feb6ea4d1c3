"""Writing a site's data in a user's own formats: CSV, FASTA with its labels, PNG with a table of paths."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from research.evidence.federations.items import Item

LABELS = ("id", "concept", "group", "split")
TABLE = "labels.csv"  # every site has one, whatever its modality


def write_site(folder: Path, kind: str, items: Sequence[Item], part_of: Mapping[str, str]) -> None:
    """Write a site's data into a new folder; :func:`data_of` says what of it the site file names.

    Args:
        kind: ``image``, ``text``, ``genomics``; the rows of all others are numbers by column.
        part_of: ``train``, ``validation`` or ``test`` by id.
    """
    folder.mkdir(parents=True)
    labels = [(i.id, i.concept, i.group, part_of[i.id]) for i in items]
    if kind == "image":
        for item in items:
            (folder / f"{item.id}.png").write_bytes(item.content)
        more, cells = ("path",), [(f"{i.id}.png",) for i in items]
    elif kind == "text":
        more, cells = ("text",), [(i.content,) for i in items]
    elif kind == "genomics":
        write_fasta(folder / "data.fasta", {i.id: i.content for i in items})
        more, cells = (), [() for _ in items]
    else:
        more, cells = tuple(items[0].content), [tuple(i.content.values()) for i in items]
    write_csv(folder / TABLE, (*LABELS, *more), ((*a, *b) for a, b in zip(labels, cells, strict=True)))


def data_of(folder: Path, kind: str) -> tuple[str, str | None]:
    """The ``data`` and ``labels`` of a site's file."""
    if kind == "genomics":
        return str(folder / "data.fasta"), str(folder / TABLE)
    return str(folder / TABLE), None


def write_fasta(path: Path, records: Mapping[str, str]) -> None:
    """Write a FASTA file, a record for each id."""
    path.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records.items()))


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Write a table with Unix line ends, to the same bytes on every machine."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(list(header))
        writer.writerows(rows)
