"""Text: a table with a text in each row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fedgram.config.site import PLAIN, Reading
from fedgram.data.decoding import decode_file, plain_text
from fedgram.data.labels import label_rows
from fedgram.data.tables import read_table, require_column, require_filled
from fedgram.errors import DataError
from fedgram.records import Sample


def read_texts(path: Path, reading: Reading = PLAIN) -> list[Sample]:
    """Read a sample for each row of a table.

    Raises:
        DataError: as :func:`~fedgram.data.labels.label_rows`.
    """
    table = read_table(path)
    samples = label_rows(table, path, reading)
    texts = require_filled(require_column(table, reading.columns.text, path, "text"), path)
    return [replace(sample, content=text) for sample, text in zip(samples, texts, strict=True)]


def read_text(path: Path) -> str:
    """Read the text of one anchor file.

    Raises:
        DataError: it is no text, or empty.
    """
    return parse_text(decode_file(path, "text"), path)


def parse_text(text: str, where: object) -> str:
    """A text in the form that every reader gives it.

    Raises:
        DataError: it is empty.
    """
    text = plain_text(text).strip()
    if not text:
        raise DataError("empty", where=where, expected="a text")
    return text
