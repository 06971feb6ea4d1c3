"""Tables of results: a row for every run, kept as CSV, so that a study goes on where it stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

RESULTS = Path(__file__).resolve().parent / "results"
Row = dict[str, float]  # the measures of one run
Rows = list[dict[str, Any]]
Run = TypeVar("Run", bound="DataclassInstance")  # a dataclass: the first columns


def read(path: Path) -> Rows:
    """The rows of a study, without the measures that a row does not have; none before its first run."""
    if not path.exists():
        return []
    rows = pd.read_csv(path).to_dict("records")
    return [{str(name): value for name, value in row.items() if value == value} for row in rows]


def done(path: Path, kind: type[Run]) -> set[Run]:
    """The runs that have a row in a table."""
    names = [field.name for field in fields(kind)]
    return {kind(**{name: row[name] for name in names}) for row in read(path)}


def append(path: Path, run: Any, row: Row, *, order: Sequence[str]) -> None:
    """Add a row to a table, sorted by these columns; the file is replaced at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {**asdict(run), **{name: round(value, 6) for name, value in row.items()}}
    part = path.with_suffix(".part")
    table = pd.DataFrame([*read(path), fresh]).sort_values(list(order))
    table.to_csv(part, index=False, lineterminator="\n")
    part.replace(path)
