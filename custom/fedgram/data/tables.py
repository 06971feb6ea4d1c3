"""Tables in the formats people have: every cell stays text until its column is known."""

from __future__ import annotations

import gzip
import importlib.util
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import pandas as pd

from fedgram.errors import DataError

_TYPE = "UTF-8 CSV or TSV with a header line, .parquet, or .jsonl with one object a line"


def read_table(path: Path) -> pd.DataFrame:
    """A table as strings, stripped; blank cells are ``""``.

    The suffix says what it is: ``.parquet``, ``.jsonl``, ``.tsv``; all else is CSV, with commas or semicolons.
    Text formats may be gzipped.

    Raises:
        DataError: no such file, not a table, or no rows.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="correct the path in the site file")
    kind = Path(path.name.removesuffix(".gz")).suffix.lower()
    if kind in (".parquet", ".pq") and importlib.util.find_spec("pyarrow") is None:
        raise DataError("pyarrow is not installed", where=path, remedy="pip install 'fedgram[formats]'")
    try:
        table = _read(path, kind)
    except (ValueError, TypeError, AttributeError, OSError, EOFError, zlib.error) as error:
        # The parser's own message may quote a row, so only its kind is told.
        raise DataError(
            f"not a readable table ({type(error).__name__})", where=path, expected=_TYPE, remedy="export it again"
        ) from None
    if table.empty:
        raise DataError("no samples", where=path, expected="at least one row below the header")
    return pd.DataFrame({str(name): table[name].str.strip() for name in table.columns})


def _read(path: Path, kind: str) -> pd.DataFrame:
    if kind in (".parquet", ".pq"):
        table = pd.read_parquet(path, dtype_backend="numpy_nullable")
        return pd.DataFrame({name: table[name].astype("string").fillna("").astype(str) for name in table.columns})
    if kind in (".jsonl", ".ndjson"):
        with open_text(path) as file:
            rows = [json.loads(line) for line in file if line.strip()]
        return pd.DataFrame([{k: _cell(v) for k, v in row.items()} for row in rows]).fillna("").astype(str)
    separator = "\t" if kind in (".tsv", ".tab") else _separator(path)
    return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")


def _cell(value: object) -> str:
    return "" if value is None else str(value)


def _separator(path: Path) -> str:
    """Spreadsheets write semicolons where the comma is the decimal sign."""
    with open_text(path) as file:
        header = file.readline()
    return ";" if header.count(";") > header.count(",") else ","


def open_text(path: Path) -> TextIO:
    """A text file, gzipped where its name ends in ``.gz``."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig")
    return path.open(encoding="utf-8-sig")


def require_column(table: pd.DataFrame, name: str, path: Path, setting: str) -> pd.Series:
    """A column of a table.

    Args:
        setting: that names the column in the site file.

    Raises:
        DataError: it is not there. The table's own header is not told: without one it would be a row.
    """
    if name not in table.columns:
        raise DataError(
            f"missing column {name!r}",
            where=path,
            expected=f"it holds the {setting}",
            remedy=f"add the column, or say `{setting} = …` under [columns] in the site file",
        )
    return pd.Series(table[name])


def require_filled(column: pd.Series, path: Path) -> pd.Series:
    """Raises DataError naming the first row that is blank."""
    filled = (column != "").tolist()
    require_rows(filled, path, f"column {column.name!r} is blank", remedy="fill the cell or remove the row")
    return column


def require_rows(
    good: Sequence[bool], path: Path, problem: str, *, expected: str | None = None, remedy: str | None = None
) -> None:
    """Raises DataError unless all rows are good: the first that is not by its number, and how many more."""
    wrong = [index for index, fine in enumerate(good) if not fine]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DataError(problem, where=f"{row(path, wrong[0])}{more}", expected=expected, remedy=remedy)


def require_unique(ids: Sequence[str], path: Path, what: str) -> None:
    """Raises DataError naming both rows (or records) of the first duplicate id."""
    first: dict[str, int] = {}
    for number, name in enumerate(ids, 1):
        if name in first:
            raise DataError(
                f"duplicate id: {what} {number} repeats {what} {first[name]}",
                where=path,
                remedy="give every sample an id of its own",
            )
        first[name] = number


def row(path: Path, index: int) -> str:
    """How messages name a row of a table: the first below the header is row 1."""
    return f"{path}, row {index + 1}"
