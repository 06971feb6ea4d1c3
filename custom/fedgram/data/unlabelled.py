"""Contents that somebody asks a trained model about: files of one content or of many, and data frames.

Labels may be there and are not looked at. A sample's id is the cell of the column of ids where there is one, else
the number of its row or the label of a frame's index; ``""`` where a file holds one content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from fedgram.config.site import Reading
from fedgram.data import tables
from fedgram.data.clips import AUDIO, Clip, open_clip
from fedgram.data.decoding import decode_file
from fedgram.data.labels import label_columns
from fedgram.data.paths import SUFFIXES, find_file
from fedgram.data.pixels import Picture, open_image
from fedgram.data.rows import read_rows
from fedgram.data.sequences import read_records
from fedgram.data.texts import parse_text
from fedgram.errors import DataError
from fedgram.records import Sample

Source = Path | pd.DataFrame
_TABLE = re.compile(r"(?i)\.(csv|tsv|tab|parquet|pq|jsonl|ndjson|json)(\.gz)?$")


def rows(source: Source, reading: Reading) -> list[Sample]:
    """Read the rows of a table; its features must be those of the site's own table.

    Raises:
        DataError: as :func:`~fedgram.data.rows.read_rows`.
    """
    table, path, ids = _table(source, reading)
    features = table.drop(columns=[c for c in table.columns if c in label_columns(reading)])
    return _samples(ids, read_rows(path, features, reading.columns.categories), path)


def texts(source: Source, reading: Reading) -> list[Sample]:
    """Read the texts of a table, or the one text of any other file.

    Raises:
        DataError: no column of texts, or an empty text.
    """
    if isinstance(source, Path) and not _TABLE.search(source.name):
        text = parse_text(decode_file(source, "text"), source)
        return [Sample(id="", concept="", group="", content=text, source=str(source))]
    table, path, ids = _table(source, reading)
    return _samples(ids, _column(table, reading.columns.text, path, "texts"), path)


def sequences(source: Source, reading: Reading) -> list[Sample]:
    """Read the records of a FASTA or FASTQ file.

    Raises:
        DataError: as :func:`~fedgram.data.sequences.read_records`.
    """
    if not isinstance(source, Path):
        raise DataError("a data frame", where="DNA", expected="a FASTA or FASTQ file, or sequences as strings")
    records = read_records(source)
    return _samples([*records], [*records.values()], source)


def pictures(source: Source, reading: Reading) -> list[Sample]:
    """Find the images that a table names, beside it or where its paths say; or take the one image of a file.

    Raises:
        DataError: no column of paths, no such file, or one that is no image.
    """
    return _files(source, reading, SUFFIXES, lambda path: Picture(path, reading.window), open_image)


def recordings(source: Source, reading: Reading) -> list[Sample]:
    """Find the recordings that a table names, beside it or where its paths say; or take the one of a file.

    Raises:
        DataError: no column of paths, no such file, or one that is no recording.
    """
    return _files(source, reading, AUDIO, Clip, open_clip)


def _files(
    source: Source,
    reading: Reading,
    suffixes: Sequence[str],
    content: Callable[[Path], Any],
    opened: Callable[[Any], object],
) -> list[Sample]:
    """A sample for each file that a table names, or for the file itself, which must open."""
    if isinstance(source, Path) and not _TABLE.search(source.name):
        one = content(source)
        opened(one)
        return [Sample(id="", concept="", group="", content=one, source=str(source))]
    table, path, ids = _table(source, reading)
    name, folder = reading.columns.path, path.parent
    cells = enumerate(_column(table, name, path, "paths of files"))
    found = [find_file(folder, cell, tables.row(path, i), f"column {name!r}", suffixes) for i, cell in cells]
    return _samples(ids, [content(file) for file in found], path)


def _table(source: Source, reading: Reading) -> tuple[pd.DataFrame, Path, list[str]]:
    """The cells of a source as text, the name of it for messages, and the ids of its rows."""
    if isinstance(source, Path):
        table, path = tables.read_table(source), source
        ids = [f"row {i + 1}" for i in range(len(table))]
    else:
        path = Path("data frame")
        table, ids = tables.from_frame(source, path), [str(label) for label in source.index]
    name = reading.columns.id
    return table, path, table[name].tolist() if name in table.columns else ids


def _column(table: pd.DataFrame, name: str, path: Path, what: str) -> list[str]:
    if name not in table.columns:
        raise DataError(
            f"missing column {name!r}",
            where=path,
            expected=f"the {what}, under their name in the site's own table",
        )
    return tables.require_filled(pd.Series(table[name]), path).tolist()


def _samples(ids: Sequence[str], contents: Sequence[Any], path: Path) -> list[Sample]:
    return [
        Sample(id=name, concept="", group="", content=content, source=tables.row(path, i))
        for i, (name, content) in enumerate(zip(ids, contents, strict=True))
    ]
