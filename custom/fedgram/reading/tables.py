"""Tables of samples: every cell stays text until its modality knows better."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from fedgram.errors import DataError

SAMPLE_COLUMNS = ("id", "concept", "group")


def read_table(path: Path, required: Sequence[str]) -> pd.DataFrame:
    """A CSV (or, by its suffix, JSONL) file as strings, stripped; blank cells are ``""``.

    Raises:
        DataError: no such file, not a table, no rows, or a required column is missing.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="correct the path in the site file")
    try:
        if path.suffix in (".jsonl", ".ndjson"):
            lines = path.read_text(encoding="utf-8").splitlines()
            table = pd.DataFrame.from_records([json.loads(line) for line in lines if line.strip()])
            table = table.fillna("").astype(str)
        else:
            table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, TypeError, AttributeError, pd.errors.ParserError) as error:
        # The parser's own message may quote a row, so only its kind is told.
        raise DataError(
            f"not a readable table ({type(error).__name__})",
            where=path,
            expected="UTF-8 CSV with a header line, or one JSON object a line in a .jsonl file",
        ) from None
    missing = [column for column in required if column not in table.columns]
    if missing:
        raise DataError(
            f"missing column {missing[0]!r}", where=path, expected=", ".join(required), remedy="add the column"
        )
    if table.empty:
        raise DataError("no samples", where=path, expected="at least one row below the header")
    return pd.DataFrame({name: pd.Series(table[name]).str.strip() for name in table.columns})


def read_samples(path: Path, content: Sequence[str] = ()) -> pd.DataFrame:
    """A table with ``id``, ``concept`` and ``group``, no blank among them, and unique ids.

    Args:
        content: further columns that must be there and filled.

    Raises:
        DataError: as :func:`read_table`; a blank cell or a duplicate id, by row.
    """
    columns = (*SAMPLE_COLUMNS, *content)
    table = read_table(path, columns)
    for column in columns:
        blank = (table[column] == "").to_numpy()
        if blank.any():
            raise DataError(
                f"column {column!r} is blank",
                where=f"{path}, row {blank.argmax() + 1}",
                remedy="fill the cell or remove the row",
            )
    require_unique(table["id"].tolist(), path, "row")
    return table


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
