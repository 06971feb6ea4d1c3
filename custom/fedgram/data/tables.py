"""Tables in the formats people have: every cell stays text until its column is known."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fedgram.config.strict import composed
from fedgram.data.decoding import decode_file
from fedgram.data.delimited import read_delimited
from fedgram.errors import DataError

UNNAMED = "Unnamed: "  # how pandas calls the column of row numbers that it writes itself
_PARQUET, _JSON = (".parquet", ".pq"), (".jsonl", ".ndjson", ".json")
_INDEX = re.compile(r"__index_level_\d+__")  # how Parquet calls an index without a name
_WHOLE = re.compile(r"-?\d{1,15}\.0")
_TYPE = "UTF-8 CSV or TSV with a header line, .parquet, or .jsonl with one object a line"

Columns = list[tuple[str, list[str]]]


def read_table(path: Path) -> pd.DataFrame:
    """Read a table as strings, stripped and with composed letters (NFC); blank cells are ``""``.

    The suffix says what it is: ``.parquet``, ``.jsonl``; all else is text with separators
    (:mod:`fedgram.data.delimited`). Text may be gzipped. Whole numbers that a blank cell made decimal (``17.0``)
    are whole again, and lists are cells with ``|`` between the parts.

    Raises:
        DataError: no such file, not a table, a name that is missing or there twice, or no rows.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="correct the path in the site file")
    kind = Path(re.sub(r"(?i)\.gz$", "", path.name)).suffix.lower()
    if kind in _PARQUET:
        columns = _read_parquet(path)
    elif kind in _JSON:
        columns = _read_json(decode_file(path, "table"), path)
    else:
        header, *rows = read_delimited(decode_file(path, "table"), path) or [[]]
        columns = [(name, list(cells)) for name, cells in zip(header, zip(*rows, strict=True), strict=False)]
    return _as_frame(columns, path)


def from_frame(frame: pd.DataFrame, name: Path) -> pd.DataFrame:
    """A data frame of any values in the form of :func:`read_table`.

    Args:
        name: for messages.

    Raises:
        DataError: as :func:`read_table`.
    """
    plain = frame.astype(object).where(frame.notna())
    return _as_frame([(str(column), [*map(_cell, cells)]) for column, cells in plain.items()], name)


def _as_frame(columns: Columns, path: Path) -> pd.DataFrame:
    if not columns or not columns[0][1]:
        raise DataError("no samples", where=path, expected="at least one row below the header")
    named = _named(columns, path)
    cells = np.array([_without_zeros(cells) for _, cells in named], dtype=object)
    names, height = [name for name, _ in named], len(columns[0][1])
    return pd.DataFrame(cells.reshape(len(names), height).T, columns=names, dtype=object)


def _read_parquet(path: Path) -> Columns:
    if importlib.util.find_spec("pyarrow") is None:
        raise DataError("pyarrow is not installed", where=path, remedy="pip install 'fedgram[formats]'")
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            table = file.read()
        columns = zip(table.column_names, table.columns, strict=True)
        return [(name, [*map(_cell, cells.to_pylist())]) for name, cells in columns if not _INDEX.fullmatch(name)]
    except (ArrowException, ValueError, TypeError, OSError) as error:  # its message may quote a cell
        raise _no_table(path, type(error).__name__) from None


def _read_json(text: str, path: Path) -> Columns:
    if text.lstrip().startswith("["):
        raise _no_table(path, "one JSON array", "pandas writes lines by to_json(orient='records', lines=True)")
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        try:
            row = json.loads(line) if line.strip() else {}
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise _no_table(path, f"line {number} is not a JSON object")
        if row:
            rows.append(row)
    names = dict.fromkeys(name for row in rows for name in row)
    return [(name, [_cell(row.get(name)) for row in rows]) for name in names]


def _no_table(path: Path, reason: str, remedy: str = "export it again") -> DataError:
    return DataError(f"not a readable table ({reason})", where=path, expected=_TYPE, remedy=remedy)


def _cell(value: object) -> str:
    """The text of a value, as a cell of a CSV file has it; objects inside cells stay JSON."""
    value = value.tolist() if isinstance(value, np.ndarray) else value  # of a list, out of Parquet by pandas
    if value is None or value != value:  # NaN
        return ""
    if isinstance(value, bytes):
        value = value.decode()
    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return "|".join(map(_cell, value))
    if isinstance(value, dict | list):
        value = json.dumps(value, ensure_ascii=False, default=str)
    return composed(str(value)).strip()


def _named(columns: Columns, path: Path) -> Columns:
    """The columns by distinct names; one without a name has row numbers if it is the first, else nothing.

    A header is not quoted in messages: where it is missing, it is a row.
    """
    named: dict[str, tuple[int, list[str]]] = {}
    for number, (written, cells) in enumerate(columns, 1):
        name = composed(written).strip()
        if not name and not any(cells):
            continue
        name = name or (f"{UNNAMED}0" if number == 1 else "")
        if not name:
            raise DataError(f"column {number} has cells and no name", where=path, remedy="name it, or take it out")
        if name in named:
            raise DataError(
                f"columns {named[name][0]} and {number} have the same name",
                where=path,
                expected="a name of its own for each column: a label must not be there as a feature, too",
                remedy="rename one of them, or take it out",
            )
        named[name] = number, cells
    return [(name, cells) for name, (_, cells) in named.items()]


def _without_zeros(cells: list[str]) -> list[str]:
    if any(cells) and all(not cell or _WHOLE.fullmatch(cell) for cell in cells):
        return [cell.removesuffix(".0") for cell in cells]
    return cells


def require_column(table: pd.DataFrame, name: str, path: Path, setting: str) -> pd.Series:
    """The column of a table that a setting names.

    Args:
        table: that should have it.
        name: of the column.
        path: of the table, for messages.
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
    """Refuse a column with a blank cell, naming its first blank row."""
    filled = (column != "").tolist()
    require_rows(filled, path, f"column {column.name!r} is blank", remedy="fill the cell or remove the row")
    return column


def require_rows(
    good: Iterable[bool], path: Path, problem: str, *, expected: str | None = None, remedy: str | None = None
) -> None:
    """Refuse rows that are not good: the first is named by its number, with how many more there are."""
    wrong = [index for index, fine in enumerate(good) if not fine]
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise DataError(problem, where=f"{row(path, wrong[0])}{more}", expected=expected, remedy=remedy)


def require_unique(ids: Sequence[str], path: Path, what: str) -> None:
    """Refuse ids that are there twice, naming both rows (or records) of the first."""
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
    """The name of a row in messages: the first below the header is row 1."""
    return f"{path}, row {index + 1}"
