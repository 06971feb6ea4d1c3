"""CSV and TSV: rows of cells, as many in each as the header has names; a row that has more or fewer is refused."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Literal

from fedgram.errors import DataError

_SEPARATORS = ",;\t|"
_QUOTED = re.compile('"[^"]*"')
_SAID = re.compile('"?sep=(.)"?')  # how Excel says what separates the cells below


def read_delimited(text: str, path: Path) -> list[list[str]]:
    """Read the header and the rows of a table, each row as long as the header, with stripped cells.

    What separates cells is what the header has most of: comma, semicolon, tab or ``|``. A quote opens a quoted
    cell as programs write them; in a file where that cannot be, quotes are letters (inch marks, say).

    Raises:
        DataError: a row has more or fewer cells than the header, or the header is repeated below.
    """
    first, _, rest = text.lstrip("\n").partition("\n")
    said = _SAID.fullmatch(first.strip())
    body = rest if said else text
    header = next((line for line in body.split("\n") if line.strip()), "")
    separator = said[1] if said else _separator(header)
    rows = _rows(body, separator, path)
    while rows and not any(rows[-1]):  # spreadsheets keep rows that were emptied
        rows.pop()
    return _rectangular(rows, path) if rows else []


def _separator(header: str) -> str:
    names = _QUOTED.sub("", header)
    return max(_SEPARATORS, key=names.count)


def _rows(text: str, separator: str, path: Path) -> list[list[str]]:
    plain, _ = _parsed(text, separator, csv.QUOTE_NONE)
    if '"' not in text:
        return plain
    try:
        quoted, ends = _parsed(text, separator, csv.QUOTE_MINIMAL)
    except csv.Error:
        quoted, ends = [], []
    even = len({len(row) for row in plain}) == 1
    if even and len(plain) > len(quoted) and len(plain[0]) > 1:  # a stray quote takes in rows up to the next one
        if quoted:  # or a text goes over lines that happen to have as many separators: nothing decides
            _refuse_swallowed(text, separator, ends, path)
        return [[_unquoted(cell) for cell in row] for row in plain]
    if not quoted:
        raise DataError(
            "quotes that do not match: a cell opens with one that nothing closes, or goes on after it",
            where=path,
            expected="quotes around whole cells, and doubled inside them",
            remedy="export it again with a program that quotes cells, or take stray quotes out",
        )
    _refuse_swallowed(text, separator, ends, path)
    return quoted


def _refuse_swallowed(text: str, separator: str, ends: list[int], path: Path) -> None:
    """Refuse a table in which all cells of several lines hold whole rows: their quotes are letters."""
    lines = text.split("\n")
    width = len(lines[ends[0] - 1].split(separator))
    long = [(number, lines[ends[number - 1] : end]) for number, end in enumerate(ends) if number]
    long = [(number, found) for number, found in long if sum(map(bool, found)) > 1]
    if long and all(len(line.split(separator)) == width for _, found in long for line in found):
        raise DataError(
            "a quoted cell goes over lines that look like rows of their own",
            where=f"{path}, row {long[0][0]}",
            expected="a quote at the start of a cell only where one closes the cell",
            remedy="take line ends out of quoted cells; double quotes that are letters (inch marks, say), and "
            "quote their cells",
        )


def _parsed(text: str, separator: str, quoting: Literal[0, 3]) -> tuple[list[list[str]], list[int]]:
    """Rows that are not empty, with stripped cells, and the number of the line on which each ends."""
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(
        io.StringIO(text), delimiter=separator, quoting=quoting, skipinitialspace=separator != "\t", strict=True
    )
    rows = [([cell.strip() for cell in row], reader.line_num) for row in reader if row]
    return [row for row, _ in rows], [end for _, end in rows]


def _unquoted(cell: str) -> str:
    inside = cell[1:-1]
    whole = len(cell) > 1 and cell[0] == cell[-1] == '"' and '"' not in inside.replace('""', "")
    return inside.replace('""', '"').strip() if whole else cell


def _rectangular(rows: list[list[str]], path: Path) -> list[list[str]]:
    header, *body = rows
    if not any(cell for row in body for cell in row[len(header) :]):  # separators at the end of the rows
        body = [row[: len(header)] for row in body]
    for number, row in enumerate(body, 1):
        if len(row) != len(header):
            raise DataError(
                f"{len(row)} cells where the header has {len(header)}",
                where=f"{path}, row {number}",
                remedy="quote cells that hold a separator or a line end, and keep the separators of empty cells; "
                "R writes a name for its names of rows with col.names = NA",
            )
        if row == header:
            raise DataError(
                "repeats the header", where=f"{path}, row {number}", remedy="take it out: were two files joined?"
            )
    return [header, *body]
