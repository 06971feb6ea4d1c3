"""Everything that somebody may ask a trained model about, as samples of its modality."""

from __future__ import annotations

import os
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


def read_asked(modality: Modality, contents: Any, reading: Reading, where: str) -> list[Sample]:
    """Read contents, alone or in a list.

    A path is a file of one content or of many, or a folder of such files, and so is a string that names a file
    that is there; a data frame has a content in each row, and so has a dictionary of columns; dictionaries in a
    list are rows. Samples stay as they are: what was read is not read again. Anything else is a content as the
    modality has it. Ids are those of :mod:`fedgram.data.unlabelled`, the file's name where it holds one content,
    and numbers for contents. A file's name stands before its ids where several sources are asked about.

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
    one = isinstance(contents, str | Path | Picture | Clip | Sample | pd.DataFrame)
    items = [contents] if one else [*contents]
    if items and all(isinstance(item, Mapping) for item in items):
        items = [pd.DataFrame(items)]
    for item in items:
        if isinstance(item, Path) or (isinstance(item, str) and _is_path(item, modality)):
            yield from _files(Path(item).expanduser())
        else:
            yield item


def _is_path(text: str, modality: Modality) -> bool:
    """Whether a string names a file that is there, or can be nothing else; a folder may be called like a word."""
    only = isinstance(modality, FileModality) and modality.parse is None
    return only or os.path.isfile(os.path.expanduser(text))  # pathlib raises where a text is too long for a name


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
    if isinstance(source, Sample):
        return [source]
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
    if isinstance(source, str) and isinstance(modality, FileModality) and modality.parse is not None:
        source = modality.parse(source, f"content {number}, which names no file")
    return [Sample(id=str(number), concept="", group="", content=source)]
