"""One image file as 8-bit RGB: PNG, JPEG, TIFF, DICOM; and one mask file as classes."""

from __future__ import annotations

import importlib.util
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from fedgram.data.paths import SUFFIXES
from fedgram.errors import DataError

_DICOM = (".dcm", ".dicom")


@dataclass(frozen=True)
class Picture:
    """An image file; its pixels are read when they are needed, so that memory does not grow with the folder.

    Attributes:
        path: of the file.
        window: lowest and highest intensity to show, for images of more than 8 bits.
    """

    path: Path
    window: tuple[float, ...] | None = None

    def fingerprint(self) -> bytes:
        """Identifies what is seen."""
        return self.path.read_bytes() + (repr(self.window).encode() if self.window else b"")


def is_image(path: Path) -> bool:
    """By suffix; a file without one is a DICOM file if it says so (archives write them like that)."""
    if path.suffix:
        return path.suffix.lower() in SUFFIXES
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def is_dicom(path: Path) -> bool:
    """Whether :func:`is_image` takes it for DICOM."""
    return not path.suffix or path.suffix.lower() in _DICOM


def open_image(picture: Picture) -> Image.Image:
    """An 8-bit RGB image.

    Raises:
        DataError: not an image, damaged, a volume, or of more than 8 bits a channel without a window.
    """
    if is_dicom(picture.path):
        return _to_8_bits(*_dicom(picture))
    try:
        with Image.open(picture.path) as image:
            return _rgb(image, picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"unreadable image ({type(error).__name__})",
            where=picture.path,
            expected="PNG, JPEG, TIFF or DICOM",
            remedy="repair the file or take it out of the folder",
        ) from None


def _rgb(image: Image.Image, picture: Picture) -> Image.Image:
    if image.format == "TIFF" and getattr(image, "n_frames", 1) > 1:
        raise _volume(picture.path, image.n_frames)  # pyright: ignore[reportAttributeAccessIssue]
    if image.mode[0] not in "IF":
        return ImageOps.exif_transpose(image).convert("RGB")
    if picture.window is None:  # conversion would clip at 255: which window is right is for the site to say
        raise DataError(
            f"pixel format {image.mode}",
            where=picture.path,
            expected="8 bits a channel, or a window",
            remedy="say `window = [lowest, highest]` in the site file; anchors need 8 bits",
        )
    return _to_8_bits(np.asarray(image, dtype=np.float64), picture.window)


def _to_8_bits(values: np.ndarray, window: tuple[float, ...]) -> Image.Image:
    """Intensities (H, W) or colours (H, W, 3), the window stretched over 0 … 255."""
    low, high = window
    scaled = (np.clip(values, low, high) - low) / max(high - low, 1e-9) * 255
    return Image.fromarray(scaled.round().astype(np.uint8)).convert("RGB")


def _dicom(picture: Picture) -> tuple[np.ndarray, tuple[float, ...]]:
    """Intensities, dark to bright, and the window: the site's, the file's own, or all of the range."""
    dataset = read_dicom(picture.path)
    if "PixelData" not in dataset:
        raise DataError("no image in it", where=picture.path, remedy="take it out: a report or a plan, say")
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        if frames > 1:
            raise _volume(picture.path, frames)
        values, window = _intensities(dataset)
    except (AttributeError, LookupError, ValueError, RuntimeError, struct.error) as error:
        raise DataError(
            f"no readable pixels ({type(error).__name__})",
            where=picture.path,
            expected="one image, uncompressed, RLE, JPEG or JPEG 2000",
            remedy="pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress the file",
        ) from None
    if values.ndim == 2:
        window = picture.window or window
    values = values.astype(np.float64)
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":  # the lowest value is white
        values = sum(window) - values
    return values, window


def _intensities(dataset: Any) -> tuple[np.ndarray, tuple[float, float]]:
    """Intensities (H, W) in the file's units, or colours (H, W, 3), with the range that the file wants shown."""
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
    from pydicom.pixels.utils import pixel_array

    pixels = pixel_array(dataset)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        bits = dataset.RedPaletteColorLookupTableDescriptor[2]
        return apply_color_lut(pixels, dataset), (0.0, 2.0**bits - 1)
    if pixels.ndim == 3:
        return pixels, (0.0, 2.0 ** int(dataset.BitsStored) - 1)
    values = apply_modality_lut(pixels, dataset)
    if "VOILUTSequence" in dataset:
        bits = dataset.VOILUTSequence[0].LUTDescriptor[2]
        return apply_voi_lut(np.rint(values).astype(np.int32), dataset), (0.0, 2.0**bits - 1)
    if "WindowCenter" in dataset:
        center, width = (float(np.atleast_1d(dataset[name].value)[0]) for name in ("WindowCenter", "WindowWidth"))
        return values, (center - width / 2, center + width / 2)
    return values, (float(values.min()), float(values.max()))


def read_dicom(path: Path, pixels: bool = True) -> Any:
    """A DICOM data set.

    Raises:
        DataError: pydicom is not installed, or the file is not DICOM.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise DataError("pydicom is not installed", where=path, remedy="pip install 'fedgram[formats]'")
    from pydicom import dcmread
    from pydicom.errors import InvalidDicomError

    try:
        return dcmread(path, stop_before_pixels=not pixels)
    except (InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise DataError(
            f"unreadable DICOM ({type(error).__name__})", where=path, remedy="repair the file or take it out"
        ) from None


def _volume(path: Path, frames: int) -> DataError:
    return DataError(
        f"{frames} frames in one file", where=path, expected="one image", remedy="write each slice as a file"
    )


def open_mask(path: Path) -> np.ndarray:
    """Class of every pixel, (H, W), uint8.

    Raises:
        DataError: not an image, lossy, or not one number below 256 a pixel.
    """
    try:
        with Image.open(path) as image:
            lossy, mode = image.format == "JPEG", image.mode
            values = np.asarray(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(
            f"unreadable mask ({type(error).__name__})", where=path, expected="a PNG or TIFF file"
        ) from None
    if lossy:
        raise DataError("a JPEG file", where=path, expected="PNG or TIFF: JPEG blurs the classes")
    if mode in ("RGB", "RGBA") and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.min() < 0 or values.max() > 255:
        raise DataError(
            f"pixel format {mode}", where=path, expected="one class from 0 to 255 a pixel, not colours"
        )
    return values.astype(np.uint8)
