"""One image file as 8-bit RGB: PNG, JPEG, TIFF, BMP, GIF, WebP, DICOM; and one mask file as classes."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from fedgram.data.dicom import is_dicom_content, read_scan, volume
from fedgram.data.paths import DICOM, SUFFIXES
from fedgram.errors import DataError

_FORMATS = ("PNG", "JPEG", "TIFF", "BMP", "GIF", "WEBP")
_PHOTOMETRIC = 262  # the TIFF tag that says whether zero is black or white


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
        """Bytes that identify the pixels: the file, the window, and the reading where it has changed."""
        window = repr(self.window).encode() if self.window else b""
        return self.path.read_bytes() + window + (b"reading 2" if _is_read_anew(self.path) else b"")


def is_image(path: Path) -> bool:
    """Whether a file is an image, by its suffix; or by its content, as DICOM files have any name."""
    return path.suffix.lower() in SUFFIXES or is_dicom_content(path)


def is_dicom(path: Path) -> bool:
    """Whether a file is to be read as DICOM."""
    return path.suffix.lower() in DICOM or is_dicom_content(path)


def _is_read_anew(path: Path) -> bool:
    """Whether tokens of before version 0.2 are of other pixels: DICOM padding and windows, hidden colours."""
    if is_dicom(path):
        return True
    with _opened(path, "image", "an image") as image:
        return image.has_transparency_data


def open_image(picture: Picture) -> Image.Image:
    """Open an image as 8-bit RGB; what is transparent is white.

    Raises:
        DataError: not an image, damaged, a volume, too large, or of more than 8 bits a channel: greys need a
            window, colours are refused.
    """
    if picture.path.is_file() and is_dicom(picture.path):
        scan = read_scan(picture.path, picture.window)
        shown = _to_8_bits(sum(scan.window) - scan.values if scan.inverted else scan.values, scan.window)
        shown[scan.padding] = 0
        return Image.fromarray(shown).convert("RGB")
    with _opened(picture.path, "image", "PNG, JPEG, TIFF, BMP, GIF, WebP or DICOM") as image:
        return _rgb(image, picture)


@contextmanager
def _opened(path: Path, what: str, expected: str) -> Generator[Image.Image]:
    """Open a file with Pillow; what Pillow raises becomes a DataError."""
    try:
        Image.init()
        with Image.open(path, formats=_FORMATS) as image:
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":  # phones add a preview
                raise volume(path, frames)
            yield image
    except DataError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise DataError(
            f"{what} of more pixels than Pillow opens",
            where=path,
            expected=f"at most {2 * (Image.MAX_IMAGE_PIXELS or 0)} pixels",
            remedy="it is too large: scale it down, or cut it into tiles",
        ) from None
    except Exception as error:  # damaged files lead Pillow anywhere
        raise DataError(
            f"unreadable {what} ({type(error).__name__})",
            where=path,
            expected=expected,
            remedy="repair the file or take it out of the folder",
        ) from None


def _is_deep_colour(image: Image.Image) -> bool:
    """Whether a channel has 16 bits of which Pillow keeps the upper 8; asked before the pixels are loaded."""
    return image.mode[0] not in "IF" and ";16" in str(getattr(image, "tile", ""))


def _rgb(image: Image.Image, picture: Picture) -> Image.Image:
    if _is_deep_colour(image):
        raise DataError(
            f"pixel format {image.mode} of 16 bits a channel",
            where=picture.path,
            expected="8 bits a channel, or one channel and a window",
            remedy="write colours with 8 bits a channel, and greys without transparency",
        )
    white_is_zero = image.format == "TIFF" and getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
    upright = ImageOps.exif_transpose(image)
    if image.mode[0] not in "IF":
        if upright.has_transparency_data:  # what is hidden has a colour, too
            upright = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright)
        return upright.convert("RGB")
    if picture.window is None:  # conversion would clip at 255: which window is right is for the site to say
        raise DataError(
            f"pixel format {image.mode}",
            where=picture.path,
            expected="8 bits a channel, or a window",
            remedy="say `window = [lowest, highest]` in the site file; anchors need 8 bits",
        )
    values = np.asarray(upright, dtype=np.float64)
    values = sum(picture.window) - values if white_is_zero else values
    return Image.fromarray(_to_8_bits(values, picture.window)).convert("RGB")


def _to_8_bits(values: np.ndarray, window: tuple[float, ...]) -> np.ndarray:
    """Stretch the window of intensities (H, W) or colours (H, W, 3) over 0 … 255."""
    low, high = window
    scaled = (np.clip(np.nan_to_num(values, nan=low), low, high) - low) / max(high - low, 1e-9) * 255
    return scaled.round().astype(np.uint8)


def open_mask(path: Path) -> np.ndarray:
    """Read the class of every pixel, (H, W), uint8.

    Raises:
        DataError: not an image, lossy, partly transparent, or not one number below 256 a pixel.
    """
    with _opened(path, "mask", "a PNG or TIFF file") as image:
        lossy, mode, deep = image.format in ("JPEG", "MPO"), image.mode, _is_deep_colour(image)
        values = np.asarray(image)
    if lossy:
        raise DataError("a JPEG file", where=path, expected="PNG or TIFF: JPEG blurs the classes")
    if mode in ("LA", "RGBA"):
        if (values[..., -1] < 255).any():
            raise DataError("transparent pixels in a mask", where=path, remedy="give each pixel its class, opaque")
        values = values[..., :-1]
    if values.ndim == 3 and not deep and (values == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.min() < 0 or values.max() > 255 or (values % 1).any():
        raise DataError(
            f"pixel format {mode}", where=path, expected="one class from 0 to 255 a pixel, not colours"
        )
    return values.astype(np.uint8)
