"""Id, concept, group, target and split of samples, from the columns of a table."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from fedgram.config.site import Columns, Reading
from fedgram.data.numbers import parse_numbers, with_points
from fedgram.data.paths import find_file
from fedgram.data.tables import require_column, require_filled, require_rows, require_unique, row
from fedgram.errors import DataError
from fedgram.records import Sample, Target

SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
_TRUTHS = {
    **dict.fromkeys(("0", "0.0", "false", "no"), False),
    **dict.fromkeys(("1", "1.0", "true", "yes"), True),
}
_SEPARATORS = re.compile("[|;]")
_JOINTS = re.compile(r"\s*[|;,]\s*")


def label_rows(table: pd.DataFrame, path: Path, reading: Reading, files: Path | None = None) -> list[Sample]:
    """Make a sample without content for each row.

    Args:
        path: of the table, for messages.
        files: folder of the files that it names; its own folder when absent.

    Raises:
        DataError: a column is missing, a cell is blank or wrong, an id appears twice; by row, never by value.
    """
    columns, count = reading.columns, len(table)
    ids = [f"row {i + 1}" for i in range(count)]
    if columns.id in table.columns or columns.id != Columns.id or reading.task is None:
        ids = require_filled(require_column(table, columns.id, path, "id"), path).tolist()
    table = table.assign(**{columns.id: ids})
    require_unique(ids, path, "row")
    groups = require_filled(_group(table, path, columns), path)
    concepts = _concepts(table, path, reading)
    targets = _targets(table, path, reading, files or path.parent)
    splits = read_splits(table, path, columns)
    cells = zip(ids, concepts, groups, targets, splits, strict=True)
    return [
        Sample(id=name, concept=concept, group=group, content=None, target=target, split=part, source=row(path, i))
        for i, (name, concept, group, target, part) in enumerate(cells)
    ]


def joined(names: Collection[str]) -> list[str]:
    """The names that are several of the others in one, with ``|``, ``;`` or a comma between them, sorted."""
    known = set(names)
    parts = {name: set(_JOINTS.split(name)) for name in known}
    return sorted(name for name in known if len(parts[name]) > 1 and parts[name] <= known)


def label_columns(reading: Reading) -> set[str]:
    """The columns that are no features."""
    columns = reading.columns
    named = {columns.id, columns.concept, columns.group, columns.split, reading.target, *columns.targets}
    return named | set(columns.drop)


def _group(table: pd.DataFrame, path: Path, columns: Columns) -> pd.Series:
    if columns.group == Columns.id and Columns.id not in table.columns:
        return pd.Series(table[columns.id])  # every row is one of its own, whatever its id is called
    if columns.group not in table.columns:
        raise DataError(
            f"missing column {columns.group!r}",
            where=path,
            expected="what must not be on two sides of the split: the patient",
            remedy='say `group = "…"` under [columns] in the site file; `group = "id"` if every row is a patient',
        )
    return pd.Series(table[columns.group])


def _concepts(table: pd.DataFrame, path: Path, reading: Reading) -> list[str]:
    """The concepts of the rows; they may be missing or blank where the head learns something else."""
    name = reading.columns.concept
    if reading.target == name and reading.task is not None:
        return require_filled(require_column(table, name, path, "concept"), path).tolist()
    if name not in table.columns and name == Columns.concept:
        return [""] * len(table)
    return require_column(table, name, path, "concept").tolist()


def _targets(table: pd.DataFrame, path: Path, reading: Reading, files: Path) -> list[Target]:
    if reading.task is None:
        return [None] * len(table)
    if reading.task == "multilabel" and reading.columns.targets:
        return _one_column_each(table, path, reading.columns.targets)
    column = require_column(table, reading.target, path, "target")
    if reading.task == "multilabel":
        return [tuple(sorted({part.strip() for part in _SEPARATORS.split(cell)} - {""})) for cell in column]
    cells = require_filled(column, path)
    if reading.task == "regression":
        return _numbers(cells, table, path)
    if reading.task == "segmentation":
        what = f"column {reading.target!r}"
        return [find_file(files, cell, row(path, i), what) for i, cell in enumerate(cells)]
    return cells.tolist()


def _one_column_each(table: pd.DataFrame, path: Path, names: tuple[str, ...]) -> list[Target]:
    present: list[set[str]] = [set() for _ in range(len(table))]
    for name in names:
        truths = [_TRUTHS.get(cell.lower()) for cell in require_column(table, name, path, "targets")]
        require_rows(
            [truth is not None for truth in truths],
            path,
            f"column {name!r} is neither 0 nor 1",
            remedy="decide what unknown and uncertain are, and write 0 or 1",
        )
        for labels, truth in zip(present, truths, strict=True):
            labels |= {name} if truth else set()
    return [tuple(sorted(labels)) for labels in present]


def _numbers(cells: pd.Series, table: pd.DataFrame, path: Path) -> list[Target]:
    name = str(cells.name)
    others = [table[other].tolist() for other in table.columns if other != name]
    (plain,) = with_points([cells.tolist()], [name], path, others)
    numbers = parse_numbers(plain)
    require_rows(
        np.isfinite(numbers).tolist(),
        path,
        f"column {name!r} is not a number",
        expected="a number, with a decimal point",
        remedy="correct the cell or remove the row",
    )
    return numbers.tolist()


def read_splits(table: pd.DataFrame, path: Path, columns: Columns) -> list[str]:
    """The split that each row names; "" where the table has no column of them.

    Raises:
        DataError: a row names none.
    """
    if columns.split not in table.columns:
        if columns.split not in ("", Columns.split):
            require_column(table, columns.split, path, "split")
        return [""] * len(table)
    found = [SPLITS.get(cell.lower(), "") for cell in table[columns.split]]
    require_rows(
        [part != "" for part in found],
        path,
        f"column {columns.split!r} does not name a split",
        expected="train, validation or test",
        remedy='correct the cell, or say `split = ""` under [columns] if the column is something else',
    )
    return found
