"""Images: a folder of concepts, a folder of images and masks, or a table of paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fedgram.config.site import PLAIN, Reading
from fedgram.config.strict import composed
from fedgram.data.dicom import read_dicom
from fedgram.data.labels import SPLITS, label_rows
from fedgram.data.paths import SUFFIXES, find_file, stem, visible
from fedgram.data.pixels import Picture, is_dicom, is_image, open_image
from fedgram.data.tables import read_table, require_column, require_filled
from fedgram.errors import DataError
from fedgram.records import Sample

_IMAGES, _MASKS = "images", "masks"


def read_images(path: Path, reading: Reading = PLAIN) -> list[Sample]:
    """Read a sample for each image.

    - A folder to classify: a sub-folder for each concept, ``Ursidae/a.png`` or ``Ursidae/patient7/a.png``; the
      whole may stand below ``train``, ``validation`` and ``test``.
    - A folder to segment: ``images/a.png`` or ``images/patient7/a.png``, and as many of the same names below
      ``masks``.
    - A table of paths, below its own folder or, with ``labels``, below the folder ``path``.

    Raises:
        DataError: no such file or folder, no image, or a file that is none.
    """
    if reading.labels is not None:
        return _from_table(Path(reading.labels), path, reading)
    if path.is_file():
        return _from_table(path, path.parent, reading)
    if not path.is_dir():
        raise DataError("no such file or folder", where=path, remedy="correct the path in the site file")
    if reading.task == "segmentation":
        return _with_masks(path, reading)
    classified = reading.task == "classification" and reading.target == reading.columns.concept
    if not classified and reading.task is not None:
        raise DataError(
            f"a folder has no target for {reading.task}", where=path, remedy="name a table under `labels`"
        )
    return _from_folders(path, reading)


def _from_folders(path: Path, reading: Reading) -> list[Sample]:
    folders = _folders(path)
    if not folders:
        raise DataError("no samples", where=path, expected="one sub-folder of images for each concept")
    if all(folder.name.lower() in SPLITS for folder in folders):
        parts = [(SPLITS[part.name.lower()], folder) for part in folders for folder in _folders(part)]
    else:
        parts = [("", folder) for folder in folders]
    return [
        Sample(
            id=name,
            concept=composed(folder.name),
            group=group,
            content=picture,
            target=composed(folder.name),
            split=split,
            source=str(picture.path),
        )
        for split, folder in parts
        for name, group, picture in _pictures(folder, path, reading)
    ]


def _with_masks(path: Path, reading: Reading) -> list[Sample]:
    if not (path / _IMAGES).is_dir() or not (path / _MASKS).is_dir():
        raise DataError("no samples", where=path, expected=f"two folders, {_IMAGES} and {_MASKS}")
    samples = []
    for name, group, picture in _pictures(path / _IMAGES, path / _IMAGES, reading):
        place = picture.path.relative_to(path / _IMAGES)
        mask = find_file(path / _MASKS, str(place.with_name(stem(place))), str(picture.path), "its mask's place")
        samples.append(
            Sample(
                id=name, concept="", group=group, content=picture, target=mask, split="", source=str(picture.path)
            )
        )
    return samples


def _from_table(table_path: Path, folder: Path, reading: Reading) -> list[Sample]:
    table, name = read_table(table_path), reading.columns.path
    samples = label_rows(table, table_path, reading, folder)
    cells = require_filled(require_column(table, name, table_path, "path"), table_path)
    return [
        replace(s, content=Picture(find_file(folder, cell, s.source, f"column {name!r}"), reading.window))
        for s, cell in zip(samples, cells, strict=True)
    ]


def read_image(path: Path) -> Picture:
    """Open the image of an anchor file.

    Raises:
        DataError: as :func:`~fedgram.data.pixels.open_image`.
    """
    picture = Picture(path)
    open_image(picture)
    return picture


def _folders(path: Path) -> list[Path]:
    """The folders below one that may hold no image itself."""
    found = visible(path)
    stray = [file for file in found if file.is_file() and is_image(file)]
    if stray:
        raise DataError(
            "an image outside of the concepts' folders",
            where=stray[0],
            remedy="put it into the folder of its concept",
        )
    return [folder for folder in found if folder.is_dir()]


def _pictures(folder: Path, top: Path, reading: Reading) -> list[tuple[str, str, Picture]]:
    """Name, group and picture of every image below a folder.

    The group is the folder between (a patient) if there is one, else the patient that a DICOM file names, else
    the image itself.
    """
    found = []
    for file in _image_files(folder):
        picture, name = Picture(file, reading.window), composed(file.relative_to(top).as_posix())
        between = file.relative_to(folder).parts[:-1]
        found.append((name, composed(between[0]) if between else _patient(file) or name, picture))
    return found


def _patient(file: Path) -> str:
    return composed(str(read_dicom(file, pixels=False).get("PatientID") or "")) if is_dicom(file) else ""


def _image_files(folder: Path) -> list[Path]:
    files = sorted(_files(folder))
    for file in files:
        if not is_image(file):
            raise DataError("not an image", where=file, expected=", ".join(SUFFIXES), remedy="take it out")
    if not files:
        raise DataError("empty class folder", where=folder, remedy="add images or remove the folder")
    return files


def _files(folder: Path) -> Iterator[Path]:
    for path in visible(folder):
        if path.is_dir():
            yield from _files(path)
        elif path.is_file():
            yield path
        else:
            raise DataError("neither a file nor a folder", where=path, remedy="mend the link, or take it out")
