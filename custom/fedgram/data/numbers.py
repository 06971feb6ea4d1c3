"""Numbers as spreadsheets of all countries write them, or a refusal where their signs can be read in two ways."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from fedgram.errors import DataError

_SIGNS = re.compile(r"[,'’ \u00a0\u202f]\d|\.\d{3}\.")  # what a plain number has not
_THREE = re.compile(r"^[+-]?[1-9]\d{0,2}\.\d{3}$", re.MULTILINE)  # little more than one, or more than a thousand
_MINUS = "\u2212"  # as typeset tables have it
_EXPONENT = r"([eE][+-]?\d+)?"
_PLAIN = re.compile(rf"[+-]?(\d+|\d*\.\d+|\d+\.){_EXPONENT}")
_COMMA, _POINT = (re.compile(rf"[+-]?\d*{sign}\d+{_EXPONENT}") for sign in (",", r"\."))
_WHOLE = re.compile(r"[+-]?\d+")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:([.,'’ \u00a0\u202f])\d{3})(?:\1\d{3})*(?:[.,]\d+)?")


def parse_numbers(cells: Sequence[str]) -> np.ndarray:
    """Parse numbers with decimal points, (N,) float64; all else is NaN."""
    return np.asarray(pd.to_numeric(pd.Series(cells, dtype=object), errors="coerce"), dtype=np.float64)


def with_points(
    columns: Sequence[Sequence[str]], names: Sequence[str], path: Path, others: Sequence[Sequence[str]] = ()
) -> list[Sequence[str]]:
    """The columns of one table with decimal points where a column of numbers has decimal commas.

    ``1,234`` may be more than a thousand, or little more than one. The table decides: it has decimal commas if a
    comma of it stands before other than three digits, and no decimal point does. So may ``1.234`` in a column
    whose other numbers are whole and below a thousand, in a table without any other decimal point.

    Args:
        columns: cells of each; blank where missing.
        names: of the columns, for messages.
        path: of the table, for messages.
        others: columns of the table that help to decide and are not returned.

    Raises:
        DataError: signs of a column that may be decimal or stand between thousands, with nothing to decide it.
    """
    text = "\n".join("\n".join(cells) for cells in (*columns, *others))
    plain = _MINUS not in text and not _SIGNS.search(text)  # one look at a table of thousands of plain columns
    if plain and (not _THREE.search(text) or _is_proved((*columns, *others), _POINT)):
        return list(columns)
    columns = [[c.replace(_MINUS, "-") for c in cells] if _MINUS in "".join(cells) else cells for cells in columns]
    marked = [cells for cells in (*columns, *others) if _is_marked(cells)]
    commas, points = _is_proved(marked, _COMMA), _is_proved((*columns, *others), _POINT)
    return [
        _decided(cells, name, path, commas, points) if _is_marked(cells) else cells
        for cells, name in zip(columns, names, strict=True)
    ]


def _is_marked(cells: Sequence[str]) -> bool:
    """Whether a column of numbers has a decimal comma or what may stand between thousands."""
    text = "\n".join(cells)
    return bool(_SIGNS.search(text) or _THREE.search(text)) and _are_numbers(cells)


def _are_numbers(cells: Sequence[str]) -> bool:
    """Whether most cells that are not blank are numbers of some way of writing."""
    filled = [cell for cell in cells if cell]
    found = sum(any(p.fullmatch(cell) for p in (_PLAIN, _COMMA, _GROUPED)) for cell in filled)
    return bool(filled) and 2 * found >= len(filled)


def _is_proved(columns: Sequence[Sequence[str]], sign: re.Pattern[str]) -> bool:
    """Whether a cell has the sign where none can be between thousands."""
    return any(sign.fullmatch(cell) and not _GROUPED.fullmatch(cell) for cells in columns for cell in cells)


def _decided(cells: Sequence[str], name: str, path: Path, commas: bool, points: bool) -> list[str]:
    """A column of numbers with decimal points, where the table is known to have decimal commas or points."""
    kinds = {_kind(cell) for cell in cells if cell}
    wrong = "grouped" in kinds or {"comma", "point"} <= kinds
    wrong |= {"point?", "short"} <= kinds and "long" not in kinds and not points
    if wrong or ("comma?" in kinds and (points or not commas)) or ("point?" in kinds and commas):
        raise DataError(
            f"column {name!r} has numbers with thousands separators, or commas or points that may be such",
            where=path,
            expected="a decimal point, or decimal commas in all of the table, and no thousands separators",
            remedy="export it without them (and 2 as 2.0 where 1.234 is little more than one); or name the column "
            "under `drop` or `categories` of [columns]",
        )
    return [cell.replace(",", ".") if _COMMA.fullmatch(cell) else cell for cell in cells]


def _kind(cell: str) -> str:
    """The way a number is written: whole, with a decimal sign, perhaps (``?``), or grouped by thousands."""
    if _WHOLE.fullmatch(cell):
        return "short" if abs(float(cell)) < 1000 else "long"
    decimal = "comma" if _COMMA.fullmatch(cell) else "point" if _POINT.fullmatch(cell) else ""
    if not _GROUPED.fullmatch(cell):
        return decimal
    return f"{decimal}?" if decimal else "grouped"
