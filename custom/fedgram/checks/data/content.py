"""Findings about the contents of samples: unreadable, there twice, columns that say nothing."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from fedgram.checks.finding import TAKE_OUT, Finding, Level, from_error
from fedgram.config.site import SiteConfig
from fedgram.data.clips import Clip, open_clip
from fedgram.data.columns import is_name_of_id
from fedgram.data.pixels import Picture, open_image, open_mask
from fedgram.data.rows import Row, category, folded, is_missing
from fedgram.errors import DataError
from fedgram.modalities.base import Modality
from fedgram.records import Sample

Parts = Mapping[str, Sequence[Sample]]
_SHOWN = 3
_SPARSE = 0.5  # share of missing values
_MANY = 0.5  # categories for each row
_SEVERAL = 10  # numbers that a column of them has at least
_SIGNED = r"[<>≤≥~±]=?\s*\d[\d.,]*(\s?\S+)?"
_NUMBER = r"[+-]?\d[\d.,]*(\s?[%‰°]\S*|\s\S+|[^\W\d_]{2,}(/\S+)?)?"  # with a unit or without
_DATE = r"\d{1,4}([-./])\d{1,2}\4\d{1,4}([ T][\d:.]+)?"
_MEASURE = re.compile(f"{_SIGNED}|{_NUMBER}|{_DATE}")


def unreadable(parts: Parts) -> Iterator[Finding]:
    """Images, masks and recordings that cannot be opened, the first of them by name."""
    errors = [error for samples in parts.values() for s in samples for error in _errors(s)]
    for error in errors[:_SHOWN]:
        yield from_error(error)
    if len(errors) > _SHOWN:
        yield Finding(
            "failure", f"{len(errors) - _SHOWN} more images, masks or recordings cannot be used", "as above"
        )


def _errors(sample: Sample) -> Iterator[DataError]:
    try:
        if isinstance(sample.content, Clip):
            open_clip(sample.content)
        size = open_image(sample.content).size if isinstance(sample.content, Picture) else None
        if isinstance(sample.target, Path):
            height, width = open_mask(sample.target).shape
            if size != (width, height):
                yield DataError(
                    f"a mask of {width} × {height} pixels", where=sample.target, expected=f"as its image, {size}"
                )
    except DataError as error:
        yield error


def duplicates(modality: Modality, parts: Parts) -> Iterator[Finding]:
    """Contents that are on two sides of the split, or have two labels."""
    seen: dict[bytes, list[tuple[str, Sample]]] = defaultdict(list)
    for part, samples in parts.items():
        for sample in samples:
            seen[sha256(modality.fingerprint(sample.content)).digest()].append((part, sample))
    repeated = [found for found in seen.values() if len(found) > 1]
    across = [found for found in repeated if len({part for part, _ in found}) > 1]
    if across:
        yield Finding(
            "warning",
            f"{len(across)} contents are in more than one split: {_places(across)}",
            "a test on them flatters: remove the copies, or give copies the same group",
        )
    torn = [found for found in repeated if len({repr((s.target, s.concept)) for _, s in found}) > 1]
    if torn:
        yield Finding(
            "warning", f"{len(torn)} contents have two labels: {_places(torn)}", "decide, or remove them"
        )


def _places(found: Sequence[Sequence[tuple[str, Sample]]]) -> str:
    shown = []
    for one in found:
        first, *others = [(part, Path(s.source).name or s.id) for part, s in one]
        other = next((place for place in others if place[0] != first[0]), others[0])
        shown.append(" = ".join(f"{name} ({part})" for part, name in (first, other)))
    return "; ".join(shown[:_SHOWN]) + ("; …" if len(shown) > _SHOWN else "")


def empty_columns(tokenizer: str, parts: Parts) -> list[Finding]:
    """Columns of a table without a value in any training row, which the plain tokenizers refuse."""
    rows = _rows(parts)
    columns = rows[0].columns if rows else ()
    empty = [name for i, name in enumerate(columns) if all(is_missing(row.values[i]) for row in rows)]
    level = "failure" if tokenizer in ("numeric", "wide") else "warning"
    return [*_about(empty, "no value in any training row", TAKE_OUT, level)]


def columns(config: SiteConfig, parts: Parts) -> Iterator[Finding]:
    """Columns of a table that say nothing, or nothing that holds for others."""
    rows = _rows(parts)
    if not rows:
        return
    constant, sparse, unique, measures = [], [], [], []
    for number, name in enumerate(rows[0].columns):
        present = [row.values[number] for row in rows if not is_missing(row.values[number])]
        named = {category(cell) for cell in present}
        if len(named) == 1:
            constant.append(name)
        elif 0 < len(present) < _SPARSE * len(rows):
            sparse.append(name)
        if any(isinstance(cell, str) for cell in present):
            several = len(named) >= _SEVERAL and name not in config.columns.categories
            if several and sum(map(_is_measure, named)) > _MANY * len(named):
                measures.append(name)
            elif len(named) > max(_MANY * len(present), 2):
                unique.append(name)
    yield from _about(constant, "the same in all training rows", TAKE_OUT)
    yield from _about(sparse, f"more than {1 - _SPARSE:.0%} missing", f"fill it, or {TAKE_OUT}")
    yield from _about(
        measures,
        "numbers with words, units or signs, or dates: each value is a category of its own",
        f"write bare numbers (of a date, days since a start), and nothing where there is none; or {TAKE_OUT}",
    )
    yield from _about(unique, "nearly every row has a category of its own", f"if it is a name or date, {TAKE_OUT}")


def _is_measure(name: str) -> bool:
    return bool(_MEASURE.fullmatch(name))


def ids(config: SiteConfig, parts: Parts) -> Iterator[Finding]:
    """Columns of a table that may name the patient, where every row is a group of its own."""
    samples = [sample for found in parts.values() for sample in found]
    rows = [sample.content for sample in samples if isinstance(sample.content, Row)]
    if not rows or any(sample.group != sample.id for sample in samples):
        return
    repeated = []
    for number, name in enumerate(rows[0].columns):
        if is_name_of_id(name):
            present = [row.values[number] for row in rows if not is_missing(row.values[number])]
            repeated += [name] if 1 < len(set(present)) < len(present) else []
    yield from _about(
        repeated,
        "named like an id, and several rows have one: those of a patient may be on two sides of the split",
        "name the patient's column as group under [columns], and any other id under drop",
    )


def _rows(parts: Parts) -> list[Row]:
    return [sample.content for sample in parts["train"] if isinstance(sample.content, Row)]


def _about(names: Sequence[str], text: str, remedy: str, level: Level = "warning") -> Iterator[Finding]:
    if names:
        yield Finding(level, f"column{'s' * (len(names) > 1)} {folded(names)}: {text}", remedy)
