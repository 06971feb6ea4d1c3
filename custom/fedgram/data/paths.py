"""The files that a table or another file names."""

from __future__ import annotations

from pathlib import Path

from fedgram.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".dcm", ".dicom")
_SPELLINGS = ("", *SUFFIXES, *map(str.upper, SUFFIXES))


def find_file(folder: Path, name: str, where: str, what: str) -> Path:
    """The file of a name below a folder; its suffix may be left out.

    Raises:
        DataError: there is none, or more than one.
    """
    found = [path for path in (folder / f"{name}{suffix}" for suffix in _SPELLINGS) if path.is_file()]
    if not found or (len(found) > 1 and found[0].name != Path(name).name):
        raise DataError(
            f"{what} names {'more than one file' if found else 'no file'}",
            where=where,
            expected=f"one file below {folder}",
            remedy="correct the name, or the folder in the site file",
        )
    return found[0]
