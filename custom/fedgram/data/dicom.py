"""One DICOM file as intensities or colours; an attribute that is there and empty counts as absent."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedgram.errors import DataError

_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NO_DECODER = "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress the file"


@dataclass(frozen=True)
class Scan:
    """The image of a DICOM file.

    Attributes:
        values: intensities (H, W) in the file's units, or colours (H, W, 3).
        window: the range that the file wants shown; all of the range if it says nothing.
        inverted: whether the lowest value is white.
        padding: (H, W), where there is nothing to see.
    """

    values: np.ndarray
    window: tuple[float, ...]
    inverted: bool
    padding: np.ndarray


def is_dicom_content(path: Path) -> bool:
    """Whether a file begins as DICOM does, whatever its name: archives name files by a UID, without a suffix."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_dicom(path: Path, pixels: bool = True) -> Any:
    """Read a DICOM data set.

    Raises:
        DataError: pydicom is not installed, or the file is not DICOM.
    """
    if importlib.util.find_spec("pydicom") is None:
        raise DataError("pydicom is not installed", where=path, remedy="pip install 'fedgram[formats]'")
    from pydicom import dcmread

    try:
        return dcmread(path, stop_before_pixels=not pixels)
    except Exception as error:  # damaged files lead pydicom anywhere, and its messages may quote them
        raise DataError(
            f"unreadable DICOM ({type(error).__name__})",
            where=path,
            expected="a DICOM file with its preamble",
            remedy="repair it, take it out, or write it anew with `dcmconv` if only the preamble is missing",
        ) from None


def read_scan(path: Path, window: tuple[float, ...] | None = None) -> Scan:
    """Read the one image of a DICOM file.

    Args:
        path: of the file.
        window: of intensities to show, before what the file says.

    Raises:
        DataError: as :func:`read_dicom`; no image in it, several frames, or pixels that cannot be decoded.
    """
    dataset = read_dicom(path)
    if not any(name in dataset for name in _PIXELS):
        raise DataError("no image in it", where=path, remedy="take it out: a report, a plan or a directory, say")
    try:
        frames = int(dataset.get("NumberOfFrames") or 1)
        dataset.NumberOfFrames = frames
        scan = _scan(dataset, window) if frames == 1 else None
    except Exception as error:  # as above; every part of the file is somebody's own software
        raise DataError(
            f"no readable pixels ({type(error).__name__})",
            where=path,
            expected="one whole image: uncompressed, RLE, JPEG or JPEG 2000",
            remedy=_NO_DECODER if isinstance(error, RuntimeError) else "repair the file or take it out",
        ) from None
    if scan is None:
        raise volume(path, frames)
    return scan


def volume(path: Path, frames: int) -> DataError:
    """The error for a file with several images."""
    return DataError(
        f"{frames} frames in one file", where=path, expected="one image", remedy="write each slice as a file"
    )


def _scan(dataset: Any, window: tuple[float, ...] | None) -> Scan:
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    pixels = pixel_array(dataset)
    nothing = np.zeros(pixels.shape[:2], dtype=bool)
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        bits = dataset.RedPaletteColorLookupTableDescriptor[2]
        return Scan(apply_color_lut(pixels, dataset), (0.0, 2.0**bits - 1), False, nothing)
    if pixels.ndim == 3:
        return Scan(pixels, (0.0, 2.0 ** int(dataset.BitsStored) - 1), False, nothing)
    padding = _padding(pixels, dataset)
    if _given(dataset, "RescaleSlope") or _given(dataset, "RescaleIntercept"):
        dataset.RescaleSlope = _first(dataset, "RescaleSlope", 1.0)
        dataset.RescaleIntercept = _first(dataset, "RescaleIntercept", 0.0)
    else:
        dataset.pop("RescaleSlope", None)
    values = apply_modality_lut(pixels, dataset).astype(np.float64)
    if window is None:
        values, window = _windowed(values, dataset, padding)
    return Scan(values, window, dataset.PhotometricInterpretation == "MONOCHROME1", padding)


def _windowed(values: np.ndarray, dataset: Any, padding: np.ndarray) -> tuple[np.ndarray, tuple[float, float]]:
    """Intensities and the range to show: by the file's first look-up table, its first window, or all there is."""
    from pydicom.pixels.processing import apply_voi

    tables = dataset.get("VOILUTSequence") or []
    if tables and _given(tables[0], "LUTDescriptor") and _given(tables[0], "LUTData"):
        entries, first, bits = tables[0].LUTDescriptor
        tables[0].LUTDescriptor = [entries, first, 16]  # pydicom would count the entries of 8 bits in 8 bits
        inside = np.rint(values).clip(first, first + (entries or 2**16) - 1).astype(np.int32)
        return apply_voi(inside, dataset).astype(np.float64), (0.0, 2.0**bits - 1)
    center, width = _first(dataset, "WindowCenter", 0.0), _first(dataset, "WindowWidth", 0.0)
    if _given(dataset, "WindowCenter") and width > 0:
        if str(dataset.get("VOILUTFunction") or "").upper() == "SIGMOID":
            return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700))), (0.0, 1.0)
        return values, (center - width / 2, center + width / 2)
    seen = values[~padding] if not padding.all() else values
    return values, (float(seen.min()), float(seen.max()))


def _padding(pixels: np.ndarray, dataset: Any) -> np.ndarray:
    """The pixels where the scanner saw nothing: those of one stored value, or of a range of values."""
    if not _given(dataset, "PixelPaddingValue"):
        return np.zeros(pixels.shape, dtype=bool)
    one = _first(dataset, "PixelPaddingValue", 0.0)
    other = _first(dataset, "PixelPaddingRangeLimit", one)
    # Signed pixels with an unsigned padding value, or the other way round, are common: 63536 is -2000.
    low, high = sorted(np.array([one, other], dtype=np.int64).astype(pixels.dtype).tolist())
    return (pixels >= low) & (pixels <= high)


def _given(dataset: Any, name: str) -> bool:
    value = dataset.get(name)
    return value is not None and value != "" and (not hasattr(value, "__len__") or len(value) > 0)


def _first(dataset: Any, name: str, default: float) -> float:
    """The number that an attribute holds, the first where there are several."""
    return float(np.atleast_1d(dataset.get(name))[0]) if _given(dataset, name) else default
