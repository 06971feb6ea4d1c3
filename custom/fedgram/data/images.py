"""Images: a folder of concepts, a folder of images and masks, or a table of paths."""

from __future__ import annotations

from pathlib import Path

from fedgram.config.site import PLAIN, Reading
from fedgram.config.strict import composed
from fedgram.data.dicom import read_dicom
from fedgram.data.folders import Files, grouped, read_files
from fedgram.data.paths import SUFFIXES, find_file, stem
from fedgram.data.pixels import Picture, is_dicom, is_image, open_image
from fedgram.errors import DataError
from fedgram.records import Sample

_IMAGES, _MASKS = "images", "masks"


def read_images(path: Path, reading: Reading = PLAIN) -> list[Sample]:
    """Read a sample for each image.

    As :func:`~fedgram.data.folders.read_files`; a folder to segment has ``images/a.png`` or
    ``images/patient7/a.png``, and as many of the same names below ``masks``.

    Raises:
        DataError: no such file or folder, no image, or a file that is none.
    """
    folder = reading.labels is None and path.is_dir()
    if folder and reading.task == "segmentation":
        return _with_masks(path, reading)
    return read_files(path, reading, _files(reading))


def _with_masks(path: Path, reading: Reading) -> list[Sample]:
    if not (path / _IMAGES).is_dir() or not (path / _MASKS).is_dir():
        raise DataError("no samples", where=path, expected=f"two folders, {_IMAGES} and {_MASKS}")
    samples = []
    files = _files(reading)
    for name, group, file in grouped(path / _IMAGES, path / _IMAGES, files):
        place = file.relative_to(path / _IMAGES)
        mask = find_file(path / _MASKS, str(place.with_name(stem(place))), str(file), "its mask's place")
        content = files.content(file)
        samples.append(
            Sample(id=name, concept="", group=group, content=content, target=mask, split="", source=str(file))
        )
    return samples


def read_image(path: Path) -> Picture:
    """Open the image of an anchor file.

    Raises:
        DataError: as :func:`~fedgram.data.pixels.open_image`.
    """
    picture = Picture(path)
    open_image(picture)
    return picture


def _files(reading: Reading) -> Files:
    return Files(
        what="an image",
        suffixes=SUFFIXES,
        is_one=is_image,
        content=lambda file: Picture(file, reading.window),
        group=patient,
    )


def patient(file: Path) -> str:
    """The patient that a DICOM file names; "" where it names none, and for all other files."""
    return composed(str(read_dicom(file, pixels=False).get("PatientID") or "")) if is_dicom(file) else ""
