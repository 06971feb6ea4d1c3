"""Text: a CSV or JSONL file with the columns id, text, concept and group."""

from __future__ import annotations

from pathlib import Path

from fedgram.errors import DataError
from fedgram.reading.tables import read_samples
from fedgram.types import Sample


def read_texts(path: Path) -> list[Sample]:
    """A sample for each row.

    Raises:
        DataError: as :func:`~fedgram.reading.tables.read_samples`.
    """
    table = read_samples(path, ["text"])
    return [Sample(*row) for row in zip(table["id"], table["concept"], table["group"], table["text"], strict=True)]


def read_text(path: Path) -> str:
    """The text of one anchor file.

    Raises:
        DataError: it is not UTF-8, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"not readable ({type(error).__name__})", where=path, expected="UTF-8 text") from None
    if not text:
        raise DataError("empty", where=path, expected="the text of one anchor")
    return text
