"""Anchor sets from labelled public files, in the form that a site's own data have: one to train, one held out.

Slot j of a concept holds the j-th sample of each modality; samples with the same id in several files go first, and
share their slots.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from fedgram.anchors import AnchorSet
from fedgram.anchors.build import csv_bytes
from fedgram.anchors.coverage import LEAST_SLOTS, find_modality
from fedgram.anchors.writing import NewFile, NewSlot, write_anchors
from fedgram.config.site import Reading
from fedgram.config.targets import targets_of
from fedgram.data.clips import Clip
from fedgram.data.guess import Guess
from fedgram.data.labels import label_columns
from fedgram.data.pixels import Picture
from fedgram.data.rows import pointed
from fedgram.data.tables import read_table
from fedgram.errors import AnchorError
from fedgram.modalities.base import Modality
from fedgram.records import Sample

PER_CONCEPT = 6  # slots of a concept in each of the two sets: more cost time and say little more


@dataclass(frozen=True)
class Public:
    """A labelled public file.

    Attributes:
        path: of the file or the folder.
        guess: how it is to be read.
        features: of a table, the columns of the sites' tables; its own when empty.
        licence: under which everybody may have it.
        source: data set, version and citation.
    """

    path: Path
    guess: Guess
    features: tuple[str, ...]
    licence: str
    source: str


def build(files: Sequence[Public], folder: Path, declared: Sequence[str] = ()) -> dict[str, AnchorSet]:
    """Write ``train`` and, where enough is left for one, ``heldout``.

    Of each concept every other sample goes into either, at most :data:`PER_CONCEPT`; a content counts once.

    Raises:
        AnchorError: fewer slots than a site needs, or a folder that holds something.
        DataError: a file cannot be read.
    """
    kinds = {file.guess.modality: find_modality(file.guess.modality, declared) for file in files}
    found: dict[str, list[tuple[Sample, NewFile]]] = {}
    for file in files:
        found.setdefault(file.guess.modality, []).extend(_anchors(file, kinds[file.guess.modality]))
    concepts = sorted({sample.concept for rows in found.values() for sample, _ in rows})
    sets: dict[str, list[NewSlot]] = {"train": [], "heldout": []}
    for number, concept in enumerate(concepts):
        rows = zip_longest(
            *_paired({kind: [r for r in rows if r[0].concept == concept] for kind, rows in found.items()})
        )
        for j, row in enumerate([*rows][: 2 * PER_CONCEPT]):
            slot = f"{_plain(concept)}-{number + 1}-{j // 2 + 1}"
            new = {kind: one[1] for kind, one in zip(found, row, strict=True) if one is not None}
            sets[("train", "heldout")[j % 2]].append(NewSlot(slot, concept, new))
    covered = {name: min(sum(kind in s.files for s in slots) for kind in kinds) for name, slots in sets.items()}
    if covered["train"] < LEAST_SLOTS:
        raise AnchorError(
            f"{covered['train']} anchors of a modality",
            where=", ".join(str(file.path) for file in files),
            expected=f"at least {LEAST_SLOTS}, of as many concepts as possible",
            remedy="add public rows, texts, images or recordings with a label",
        )
    names = ["train", "heldout"] if covered["heldout"] >= LEAST_SLOTS else ["train"]
    return {name: write_anchors(folder / name, name, sets[name], kinds) for name in names}


def _anchors(file: Public, modality: Modality) -> Iterator[tuple[Sample, NewFile]]:
    """The samples of a public file, each content once, with the files that they become."""
    reading = Reading(columns=file.guess.columns, task=targets_of(file.guess.task))
    samples, seen = modality.read(file.path, reading), set()
    written = _rows(file, reading) if modality.name == "tabular" else (_bytes(modality.name, s) for s in samples)
    for sample, (suffix, content) in zip(samples, written, strict=True):
        digest = modality.fingerprint(sample.content)
        if sample.concept and digest not in seen:
            seen.add(digest)
            yield sample, NewFile(content, suffix, "real", file.licence, f"{file.source}: {sample.id}")


def _rows(file: Public, reading: Reading) -> Iterator[tuple[str, bytes]]:
    table = read_table(file.path)
    table = pointed(file.path, table.drop(columns=[c for c in table.columns if c in label_columns(reading)]))
    columns = [name for name in file.features or file.guess.features if name in table.columns]
    return ((".csv", csv_bytes(columns, cells)) for cells in table[columns].to_numpy().tolist())


def _bytes(modality: str, sample: Sample) -> tuple[str, bytes]:
    if isinstance(sample.content, Picture | Clip):
        return sample.content.path.suffix.lower(), sample.content.path.read_bytes()
    if not isinstance(sample.content, str):
        raise AnchorError(
            f"a file of modality {modality!r}",
            where=sample.source,
            expected="a table, texts, images, recordings or DNA",
            remedy="fedgram anchors build takes folders of <modality>/<concept>/<file>",
        )
    if modality == "genomics":
        return ".fasta", f">{sample.id.split()[0]}\n{sample.content}\n".encode()
    return ".txt", f"{sample.content}\n".encode()


def _paired(
    by_modality: Mapping[str, list[tuple[Sample, NewFile]]],
) -> list[list[tuple[Sample, NewFile]]]:
    """The samples of a concept by modality: those whose id all have come first, in one order."""
    ids = [{sample.id for sample, _ in rows} for rows in by_modality.values()]
    common = sorted(set.intersection(*ids)) if len(ids) > 1 else []
    place = {name: number for number, name in enumerate(common)}
    return [sorted(rows, key=lambda row: place.get(row[0].id, len(place))) for rows in by_modality.values()]


def _plain(concept: str) -> str:
    """A concept as part of a file's name."""
    return re.sub(r"[^\w-]+", "_", concept, flags=re.ASCII).strip("_")[:40] or "concept"
