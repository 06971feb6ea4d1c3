"""Files of one kind, one a sample: sorted into folders of concepts, or named by a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedgram.config.site import Reading
from fedgram.config.strict import composed
from fedgram.data.labels import SPLITS, label_rows
from fedgram.data.paths import find_file, visible
from fedgram.data.tables import read_table, require_column, require_filled
from fedgram.errors import DataError
from fedgram.records import Sample


@dataclass(frozen=True, kw_only=True)
class Files:
    """A kind of file whose name or content tells that it is one.

    Attributes:
        what: one of them is called, with its article.
        suffixes: that they have.
        is_one: tells whether a file is of the kind.
        content: makes of a file what a sample holds; it is read when it is needed.
        group: the group that a file names itself; "" where it names none.
    """

    what: str
    suffixes: tuple[str, ...]
    is_one: Callable[[Path], bool]
    content: Callable[[Path], Any]
    group: Callable[[Path], str] = lambda _: ""


def read_files(path: Path, reading: Reading, files: Files) -> list[Sample]:
    """Read a sample for each file.

    - A folder to classify: a sub-folder for each concept, ``Ursidae/a.png`` or ``Ursidae/patient7/a.png``; the
      whole may stand below ``train``, ``validation`` and ``test``.
    - A table of paths, below its own folder or, with ``labels``, below the folder ``path``.

    Raises:
        DataError: no such file or folder, a file of another kind, or a folder for a task whose targets only a
            table can hold.
    """
    if reading.labels is not None:
        return _from_table(Path(reading.labels), path, reading, files)
    if path.is_file():
        return _from_table(path, path.parent, reading, files)
    if not path.is_dir():
        raise DataError("no such file or folder", where=path, remedy="correct the path in the site file")
    classified = reading.task == "classification" and reading.target == reading.columns.concept
    if not classified and reading.task is not None:
        raise DataError(
            f"a folder has no target for {reading.task}", where=path, remedy="name a table under `labels`"
        )
    return _by_concept(path, files)


def _from_table(table_path: Path, folder: Path, reading: Reading, files: Files) -> list[Sample]:
    table, name = read_table(table_path), reading.columns.path
    samples = label_rows(table, table_path, reading, folder)
    cells = require_filled(require_column(table, name, table_path, "path"), table_path)
    found = [
        find_file(folder, cell, sample.source, f"column {name!r}", files.suffixes)
        for sample, cell in zip(samples, cells, strict=True)
    ]
    return [replace(s, content=files.content(file)) for s, file in zip(samples, found, strict=True)]


def _by_concept(path: Path, files: Files) -> list[Sample]:
    folders = _folders(path, files)
    if not folders:
        raise DataError("no samples", where=path, expected="one sub-folder of files for each concept")
    if all(folder.name.lower() in SPLITS for folder in folders):
        parts = [(SPLITS[part.name.lower()], folder) for part in folders for folder in _folders(part, files)]
    else:
        parts = [("", folder) for folder in folders]
    return [
        Sample(
            id=name,
            concept=composed(folder.name),
            group=group,
            content=files.content(file),
            target=composed(folder.name),
            split=split,
            source=str(file),
        )
        for split, folder in parts
        for name, group, file in grouped(folder, path, files)
    ]


def grouped(folder: Path, top: Path, files: Files) -> list[tuple[str, str, Path]]:
    """Name, group and path of every file below a folder.

    The group is the folder between (a patient) if there is one, else the one that the file names itself, else the
    file.

    Raises:
        DataError: a file of another kind, or none.
    """
    found = []
    for file in _required(folder, files):
        name, between = composed(file.relative_to(top).as_posix()), file.relative_to(folder).parts[:-1]
        found.append((name, composed(between[0]) if between else files.group(file) or name, file))
    return found


def below(folder: Path) -> Iterator[Path]:
    """Every file below a folder that people put there, in the order of the names.

    Raises:
        DataError: a broken link, or a pipe.
    """
    for path in visible(folder):
        if path.is_dir():
            yield from below(path)
        elif path.is_file():
            yield path
        else:
            raise DataError("neither a file nor a folder", where=path, remedy="mend the link, or take it out")


def _folders(path: Path, files: Files) -> list[Path]:
    """The folders below one that may hold no such file itself."""
    found = visible(path)
    stray = [file for file in found if file.is_file() and files.is_one(file)]
    if stray:
        raise DataError(
            f"{files.what} outside of the concepts' folders",
            where=stray[0],
            remedy="put it into the folder of its concept",
        )
    return [folder for folder in found if folder.is_dir()]


def _required(folder: Path, files: Files) -> list[Path]:
    found = sorted(below(folder))
    for file in found:
        if not files.is_one(file):
            raise DataError(
                f"not {files.what}", where=file, expected=", ".join(files.suffixes), remedy="take it out"
            )
    if not found:
        raise DataError("empty class folder", where=folder, remedy="add files or remove the folder")
    return found
