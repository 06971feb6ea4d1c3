"""Images: a folder whose sub-folders are the concepts (``Ursidae/a.png``, or ``Ursidae/patient7/a.png``)."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from fedgram.errors import DataError
from fedgram.types import Sample

_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")


def open_image(path: Path) -> Image.Image:
    """An 8-bit RGB image.

    Raises:
        DataError: not an image, damaged, or of more than 8 bits a channel.
    """
    try:
        with Image.open(path) as image:
            mode = image.mode
            rgb = image.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"unreadable image ({type(error).__name__})",
            where=path,
            expected="PNG, JPEG or TIFF",
            remedy="repair the file or take it out of the folder",
        ) from None
    if mode[0] in "IF":  # conversion would clip at 255: which window is right is for the site to say
        raise DataError(
            f"pixel format {mode}", where=path, expected="8 bits a channel", remedy="rescale to 8 bits first"
        )
    return rgb


def _image_files(folder: Path) -> list[Path]:
    visible = (
        p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    files = sorted(p for p in visible if p.is_file())
    for file in files:
        if file.suffix.lower() not in _SUFFIXES:
            raise DataError("not an image", where=file, expected=", ".join(_SUFFIXES), remedy="take it out")
    if not files:
        raise DataError("empty class folder", where=folder, remedy="add images or remove the folder")
    return files


def read_images(path: Path) -> list[Sample]:
    """A sample for each file; its group is the folder between concept and file (a patient), or the file itself.

    Raises:
        DataError: no folder, no image, or a file that is none.
    """
    if not path.is_dir():
        raise DataError("no such folder", where=path, remedy="correct the path in the site file")
    folders = sorted(p for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    if not folders:
        raise DataError("no samples", where=path, expected="one sub-folder of images for each concept")
    samples = []
    for folder in folders:
        for file in _image_files(folder):
            name, inner = file.relative_to(path).as_posix(), file.relative_to(folder).parts
            open_image(file)
            samples.append(Sample(name, folder.name, inner[0] if len(inner) > 1 else name, file))
    return samples
