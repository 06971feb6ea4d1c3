"""Tables: a CSV file with the columns id, concept and group; every other column is a number or blank."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fedgram.errors import DataError
from fedgram.reading.tables import SAMPLE_COLUMNS, read_samples, read_table
from fedgram.types import Sample

_MISSING = ("", "na", "nan", "n/a", "null", "none")


@dataclass(frozen=True)
class Row:
    """One row of numbers.

    Attributes:
        columns: names, in the order of the file.
        values: NaN where missing.
        source: file and row, for messages.
    """

    columns: tuple[str, ...]
    values: tuple[float, ...]
    source: str


def _numbers(column: pd.Series, path: Path) -> np.ndarray:
    missing = column.str.lower().isin(_MISSING)
    values = np.asarray(pd.to_numeric(column.where(~missing), errors="coerce"), dtype=np.float64)
    wrong = ~missing.to_numpy() & ~np.isfinite(values)
    if wrong.any():
        raise DataError(
            f"column {str(column.name)!r} is not a number",
            where=f"{path}, row {wrong.argmax() + 1}",
            expected="a number, or blank or NA when missing",
            remedy="correct the cell, or drop or encode the column",
        )
    return values


def read_rows(path: Path, table: pd.DataFrame) -> list[Row]:
    """The numeric part of a table.

    Raises:
        DataError: no numeric column, text where a number is due, or a row without any number.
    """
    columns = tuple(c for c in table.columns if c not in SAMPLE_COLUMNS)
    if not columns:
        raise DataError("no feature columns", where=path, expected="numbers besides id, concept and group")
    matrix = np.stack([_numbers(pd.Series(table[c]), path) for c in columns], axis=1)
    empty = np.isnan(matrix).all(axis=1)
    if empty.any():
        raise DataError("no value at all", where=f"{path}, row {empty.argmax() + 1}", remedy="remove the row")
    return [Row(columns, tuple(values), f"{path}, row {i}") for i, values in enumerate(matrix.tolist(), 1)]


def read_table_samples(path: Path) -> list[Sample]:
    """A sample for each row.

    Raises:
        DataError: as :func:`read_rows` and :func:`~fedgram.reading.tables.read_samples`.
    """
    table = read_samples(path)
    keys = zip(table["id"], table["concept"], table["group"], strict=True)
    return [Sample(*key, row) for key, row in zip(keys, read_rows(path, table), strict=True)]


def read_row(path: Path) -> Row:
    """The one row of an anchor file, without labels.

    Raises:
        DataError: as :func:`read_rows`, or not one row.
    """
    rows = read_rows(path, read_table(path, ()))
    if len(rows) != 1:
        raise DataError(f"{len(rows)} rows", where=path, expected="one row per anchor file")
    return rows[0]
