"""Contents of samples in words, for people who look at answers."""

from __future__ import annotations

from typing import Any

from fedgram.data.clips import Clip
from fedgram.data.pixels import Picture
from fedgram.data.rows import Cell, Row, category, is_missing


def words(content: Any, most: int | None = None) -> str:
    """Say what a content is: a text itself, the file of a picture or recording, the cells of a row; else its type.

    Args:
        most: letters, where there is no room for all.
    """
    if isinstance(content, Picture | Clip):
        return str(content.path)
    if isinstance(content, Row):
        cells = zip(content.columns, content.values, strict=True)
        said = ", ".join(f"{name} {_words(cell, most)}" for name, cell in cells if not is_missing(cell))
    else:
        said = " ".join(content.split()) if isinstance(content, str) else type(content).__name__
    return said if most is None or len(said) <= most else f"{said[: most - 1]}…"


def _words(cell: Cell, most: int | None) -> str:
    """A cell with all its digits, or with six where there is no room."""
    return category(cell) if most is None or isinstance(cell, str) else f"{cell:.6g}"
