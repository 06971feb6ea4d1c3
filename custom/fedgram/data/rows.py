"""Tables: every column that is no label is a feature, a number or a category; cells may be missing."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from fedgram.config.site import PLAIN, Reading
from fedgram.data import tables
from fedgram.data.labels import label_columns, label_rows
from fedgram.data.numbers import parse_numbers, with_points
from fedgram.errors import DataError
from fedgram.records import Sample

_SPREADSHEET = ("#n/a", "#na", "#null!", "#num!", "#div/0!")
_UCI, _SAS = "?", "."
MISSING = frozenset(("", "na", "nan", "-nan", "n/a", "null", "none", "<na>", *_SPREADSHEET, _UCI, _SAS))
_BROKEN = ("#ref!", "#name?", "#value!")  # formulas that a spreadsheet could not compute
_TRUTHS = {"true": "True", "false": "False"}  # R and Excel write TRUE, JSON true, pandas True
_NAMES = 12  # of columns in one line
_EXACT = 2**53  # from here on float64 does not have every whole number: two codes would be one

Cell = float | str


@dataclass(frozen=True)
class Row:
    """One row of numbers and categories.

    Attributes:
        columns: names, in the order of the file.
        values: a number, a category by name, or NaN where missing.
        source: file and row, for messages.
    """

    columns: tuple[str, ...]
    values: tuple[Cell, ...]
    source: str


def is_missing(cell: Cell) -> bool:
    """Whether a cell holds nothing."""
    return isinstance(cell, float) and math.isnan(cell)


def aligned(row: Row, columns: Sequence[str]) -> list[Cell]:
    """The cells of a row in the order of a training table's columns; both must have the same.

    Raises:
        DataError: a column too many or too few.
    """
    if row.columns == tuple(columns):
        return list(row.values)
    different = sorted(set(columns) ^ set(row.columns))
    if different:
        side = "missing" if different[0] in columns else "not in the training table"
        raise DataError(
            f"column {different[0]!r} is {side}",
            where=row.source,
            expected=folded(columns),
            remedy="the site's table and its anchors need the same columns; leave a column blank if unknown",
        )
    by_name = dict(zip(row.columns, row.values, strict=True))
    return [by_name[c] for c in columns]


def folded(names: Sequence[str]) -> str:
    """The names as one line; of many, the first and how many more."""
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more


def category(cell: Cell) -> str:
    """The name of a category with all its digits; one spelling of a code (1 and 1.0) and of truth (TRUE, true)."""
    if isinstance(cell, str):
        return _TRUTHS.get(cell.lower(), cell)
    return str(int(cell)) if cell.is_integer() else repr(cell)


def read_table_samples(path: Path, reading: Reading = PLAIN) -> list[Sample]:
    """Read a sample for each row of a table.

    Raises:
        DataError: as :func:`read_rows` and :func:`~fedgram.data.labels.label_rows`.
    """
    table = tables.read_table(path)
    samples = label_rows(table, path, reading)
    features = table.drop(columns=[c for c in table.columns if c in label_columns(reading)])
    rows = read_rows(path, features, reading.columns.categories)
    return [replace(sample, content=content) for sample, content in zip(samples, rows, strict=True)]


def read_row(path: Path) -> Row:
    """Read the one row of an anchor file, without labels.

    Raises:
        DataError: as :func:`read_rows`, or not one row.
    """
    rows = read_rows(path, tables.read_table(path))
    if len(rows) != 1:
        raise DataError(f"{len(rows)} rows", where=path, expected="one row per anchor file")
    return rows[0]


def read_rows(path: Path, table: pd.DataFrame, categories: Sequence[str] = ()) -> list[Row]:
    """Read the features of a table.

    Args:
        categories: columns whose numbers are codes.

    Raises:
        DataError: no feature column, text where a number is due, or a row without any value.
    """
    columns = tuple(c for c in table.columns if not c.startswith(tables.UNNAMED))
    for name in categories:
        tables.require_column(table, name, path, "categories")
    if not columns:
        raise DataError("no feature columns", where=path, expected="columns besides id, concept, group and target")
    cells: dict[str, Sequence[str]] = dict(zip(columns, _known(table[list(columns)]), strict=True))
    codes = set(categories)
    measured = [name for name in columns if name not in codes]
    plain = with_points([cells[name] for name in measured], measured, path)
    cells.update(zip(measured, plain, strict=True))
    numbers = parse_numbers([cell for column in cells.values() for cell in column]).reshape(len(columns), -1)
    read = numbers.tolist()
    for index in _no_plain_numbers(cells, numbers, codes):
        name = columns[index]
        read[index] = _cells(name, cells[name], numbers[index], name in codes, path)
    rows = [Row(columns, values, tables.row(path, i)) for i, values in enumerate(zip(*read, strict=True))]
    for row in rows:
        if all(map(is_missing, row.values)):
            raise DataError("no value at all", where=row.source, remedy="remove the row")
    return rows


def pointed(path: Path, table: pd.DataFrame) -> pd.DataFrame:
    """The features of a table with points for decimal commas, so that each row can be read by itself.

    Raises:
        DataError: as :func:`read_rows`, signs that may be decimal or stand between thousands.
    """
    names, cells = [*table.columns], table.to_numpy().T.tolist()
    read = with_points(_known(table), names, path)
    found = [[new or old for new, old in zip(*both, strict=True)] for both in zip(read, cells, strict=True)]
    shape = len(names), len(table)
    return pd.DataFrame(np.array(found, dtype=object).reshape(shape).T, columns=names, dtype=object)


def _known(table: pd.DataFrame) -> list[list[str]]:
    """The cells of each column, blank where missing."""
    return [["" if cell.lower() in MISSING else cell for cell in column] for column in table.to_numpy().T.tolist()]


def _no_plain_numbers(
    cells: Mapping[str, Sequence[str]], numbers: np.ndarray, codes: Collection[str]
) -> list[int]:
    """The columns that need a look cell by cell: not every filled cell is a number, or numbers are codes."""
    filled = np.array(list(cells.values()), dtype=object) != ""
    odd = (filled != np.isfinite(numbers)).any(axis=1)
    return [index for index, name in enumerate(cells) if odd[index] or name in codes]


def _cells(name: str, cells: Sequence[str], numbers: np.ndarray, codes: bool, path: Path) -> list[Cell]:
    """The cells of a column: numbers if most are, else categories."""
    finite = np.isfinite(numbers)
    if codes or 2 * finite.sum() < sum(map(bool, cells)):
        tables.require_rows(
            [cell.lower() not in _BROKEN for cell in cells],
            path,
            f"column {name!r} has a formula that failed",
            remedy="mend the formula and export again, or empty the cell",
        )
        exact = finite & (abs(numbers) < _EXACT)
        names = [category(float(n) if e else c) for c, n, e in zip(cells, numbers, exact, strict=True)]
        return [name if cell else math.nan for name, cell in zip(names, cells, strict=True)]
    tables.require_rows(
        [not cell or bool(fine) for cell, fine in zip(cells, finite, strict=True)],
        path,
        f"column {name!r} is not a number",
        expected="a number, or blank or NA when missing; most cells of this column are numbers",
        remedy="correct the cell; or name the column under `drop` or `categories` of [columns]",
    )
    return numbers.tolist()
