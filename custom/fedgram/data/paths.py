"""Files that a table or another file names."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from fedgram.config.strict import composed
from fedgram.errors import DataError

DICOM = (".dcm", ".dicom")
SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".bmp", ".gif", ".webp"),
    *DICOM,
)
_LITTER = ("__macosx", "thumbs.db", "desktop.ini", "@eadir")  # what systems leave in folders


def find_file(folder: Path, name: str, where: str, what: str, suffixes: Sequence[str] = SUFFIXES) -> Path:
    """Find the file of a name below a folder; its suffix may be left out, if it is one of these.

    A name with backslashes is one of Windows. Where no file is spelled like that, one that differs in capitals or
    in how accents are coded is meant, if it is the only one: other systems do not tell them apart.

    Raises:
        DataError: there is none, or more than one.
    """
    found: list[Path] = []
    endings = ("", *suffixes, *map(str.upper, suffixes))
    for spelled in dict.fromkeys((name, name.replace("\\", "/"))):
        exact = [path for path in (folder / f"{spelled}{suffix}" for suffix in endings) if path.is_file()]
        found = exact or _alike(folder, spelled, endings)
        if len(found) == 1 or (found and found[0].name == Path(spelled).name):
            return found[0]
        if found:
            break
    raise DataError(
        f"{what} names {'more than one file' if found else 'no file'}",
        where=where,
        expected=f"one file below {folder}",
        remedy="correct the name, or the folder in the site file",
    )


def visible(folder: Path) -> list[Path]:
    """The files and folders that people put into a folder, sorted: none that are hidden, none of the system's."""
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _LITTER)


def stem(path: Path) -> str:
    """The name of a file without a suffix of images; a DICOM UID has dots and no suffix."""
    return path.stem if path.suffix.lower() in SUFFIXES else path.name


def _alike(folder: Path, name: str, endings: Sequence[str]) -> list[Path]:
    """Files below a folder whose names differ from one at most in capitals, accents' coding and suffix."""
    *folders, last = Path(name).parts or ("",)
    places = [folder]
    for part in folders:
        places = [place / one for place in places for one in _listed(place).get(_key(part), ())]
    names = {_key(f"{last}{suffix}") for suffix in endings}
    found = [place / one for place in places for key in sorted(names) for one in _listed(place).get(key, ())]
    return [path for path in found if path.is_file()]


def _listed(folder: Path) -> Mapping[str, Sequence[str]]:
    return _names(folder, folder.stat().st_mtime_ns) if folder.is_dir() else {}


@lru_cache(maxsize=64)
def _names(folder: Path, _changed: int) -> Mapping[str, Sequence[str]]:
    names = defaultdict(list)
    for path in folder.iterdir():
        names[_key(path.name)].append(path.name)
    return names


def _key(name: str) -> str:
    return composed(name).casefold()
