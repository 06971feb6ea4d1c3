"""Everything that somebody may ask a trained model about, as samples of its modality."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pandas.api.types import is_scalar

from fedgram.config.site import Reading
from fedgram.data.clips import Clip
from fedgram.data.paths import visible
from fedgram.data.pixels import Picture
from fedgram.errors import DataError
from fedgram.modalities.base import FileModality, Modality
from fedgram.records import Sample

_FILES = ("image", "audio", "tabular")  # a string cannot be a content of these, so it is a path


def read_asked(modality: Modality, contents: Any, reading: Reading, where: str) -> list[Sample]:
    """Read contents, alone or in a list.

    A path is a file of one content or of many, or a folder of such files; a data frame has a content in each row,
    and so has a dictionary of columns; dictionaries in a list are rows. Anything else is a content as the modality
    has it. Ids are those of :mod:`fedgram.data.unlabelled`, the file's name where it holds one content, and
    numbers for contents. A file's name stands before its ids where several sources are asked about.

    Args:
        reading: how the site reads its own files.
        where: whose, for messages.

    Raises:
        DataError: nothing is there, or a file cannot be read.
    """
    sources = [*_sources(contents, modality)]
    many = len(sources) > 1
    samples = [sample for i, source in enumerate(sources) for sample in _read(modality, source, i, reading, many)]
    if not samples:
        raise DataError("nothing to look at", where=where, expected="at least one content or file")
    return samples


def _sources(contents: Any, modality: Modality) -> Iterator[Any]:
    """Files, data frames and contents, one after another."""
    if isinstance(contents, Mapping):
        contents = pd.DataFrame({k: [v] if is_scalar(v) else v for k, v in contents.items()})
    items = [contents] if isinstance(contents, str | Path | Picture | Clip | pd.DataFrame) else [*contents]
    if items and all(isinstance(item, Mapping) for item in items):
        items = [pd.DataFrame(items)]
    for item in items:
        path = Path(item) if isinstance(item, str) and modality.name in _FILES else item
        if isinstance(path, Path):
            yield from _files(path.expanduser())
        else:
            yield item


def _files(path: Path) -> Iterable[Path]:
    """A file, or all files below a folder in the order of their names."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("no such file or folder", where=path)
    found = [file for entry in visible(path) for file in _files(entry)]
    if not found:
        raise DataError("an empty folder", where=path, expected="files, one or many contents in each")
    return found


def _read(modality: Modality, source: Any, number: int, reading: Reading, many: bool) -> list[Sample]:
    """The samples of one source.

    Args:
        number: of the source.
        many: whether there are others.
    """
    read = modality.read_unlabelled if isinstance(modality, FileModality) else None
    if isinstance(source, Path) and read is None:
        return [Sample(id=str(source), concept="", group="", content=modality.read_anchor(source))]
    if isinstance(source, Path | pd.DataFrame):
        if read is None:
            raise DataError("a data frame", where=modality.name, expected="files, or its own contents")
        found = read(source, reading)
        if isinstance(source, pd.DataFrame):
            return found
        names = [f"{source}: {s.id}" if s.id and many else s.id or str(source) for s in found]
        return [replace(sample, id=name) for sample, name in zip(found, names, strict=True)]
    if isinstance(source, Picture) and reading.window is not None:
        source = Picture(source.path, reading.window)
    return [Sample(id=str(number), concept="", group="", content=source)]
