"""DICOM attributes as scanners, archives and anonymisers leave them; on a real CT that comes with pydicom."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from fedgram import modalities
from fedgram.config.site import Reading
from fedgram.data.pixels import Picture, open_image
from fedgram.errors import DataError
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

CT = Path(pydicom.data.__file__).parent / "test_files" / "CT_small.dcm"


def changed(tmp_path: Path, **elements: object) -> Path:
    dataset = dcmread(CT)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "changed.dcm")
    return tmp_path / "changed.dcm"


def pixels(path: Path, window: tuple[float, float] | None = None) -> np.ndarray:
    return np.asarray(open_image(Picture(path, window)))[..., 0]


@pytest.mark.parametrize(
    "elements",
    [
        {"WindowCenter": None, "WindowWidth": None},
        {"WindowCenter": "40"},
        {"WindowCenter": "40", "WindowWidth": None},
        {"WindowWidth": "400"},
        {"WindowCenter": "40", "WindowWidth": "0"},
        {"VOILUTSequence": Sequence()},
        {"VOILUTSequence": Sequence([Dataset()])},
        {"ModalityLUTSequence": Sequence()},
        {"PixelPaddingValue": None},
        {"NumberOfFrames": None},
    ],
    ids=lambda elements: "-".join(elements),
)
def test_an_empty_attribute_is_none(elements: dict, tmp_path: Path):
    assert (pixels(changed(tmp_path, **elements)) == pixels(CT)).all()


@pytest.mark.parametrize("slope", [None, "2"])
@pytest.mark.parametrize("intercept", [None, "-100"])
def test_slope_and_intercept_may_be_empty(slope: str | None, intercept: str | None, tmp_path: Path):
    path = changed(tmp_path, RescaleSlope=slope, RescaleIntercept=intercept)
    stored = dcmread(CT).pixel_array.astype(float)
    expected = np.clip((stored * float(slope or 1) + float(intercept or 0)) / 2000, 0, 1) * 255
    assert np.abs(pixels(path, (0, 2000)) - expected).max() <= 0.5


@pytest.mark.parametrize("padding", [-2000, 63536])  # the same 16 bits, written as signed and as unsigned
def test_padding_does_not_set_the_range_and_is_black(padding: int, tmp_path: Path):
    for kind in ("MONOCHROME2", "MONOCHROME1"):
        dataset = dcmread(CT)
        stored = dataset.pixel_array.copy()
        stored[:40] = -2000
        dataset.PixelData = stored.tobytes()
        dataset.PhotometricInterpretation = kind
        vr = "SS" if padding < 0 else "US"
        dataset.add_new("PixelPaddingValue", vr, padding)
        dataset.save_as(tmp_path / "padded.dcm")
        shown, inside = pixels(tmp_path / "padded.dcm"), stored[40:].astype(float)
        expected = (inside - inside.min()) / np.ptp(inside) * 255
        expected = 255 - expected if kind == "MONOCHROME1" else expected
        assert np.abs(shown[40:] - expected).max() <= 1
        assert not shown[:40].any()


def test_a_range_of_padding(tmp_path: Path):
    dataset = dcmread(CT)
    dataset.add_new("PixelPaddingValue", "SS", 0)
    dataset.add_new("PixelPaddingRangeLimit", "SS", 500)
    dataset.save_as(tmp_path / "range.dcm")
    path, stored = tmp_path / "range.dcm", dataset.pixel_array
    assert not pixels(path)[stored <= 500].any()
    assert pixels(path)[stored > 500].max() == 255


def test_a_sigmoid_window(tmp_path: Path):
    path = changed(tmp_path, WindowCenter="0", WindowWidth="800", VOILUTFunction="SIGMOID")
    dataset = dcmread(CT)
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    assert np.abs(pixels(path) - 255 / (1 + np.exp(-4 * hounsfield / 800))).max() <= 0.5
    assert (pixels(path, (-160, 240)) == pixels(CT, (-160, 240))).all()  # the site's window comes first


def test_a_look_up_table_of_8_bits_with_many_entries(tmp_path: Path):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 8]
    table.add_new("LUTData", "US", [i // 16 for i in range(4096)])
    path = changed(tmp_path, VOILUTSequence=[table], RescaleIntercept="0")
    assert (pixels(path) == dcmread(CT).pixel_array.clip(0, 4095) // 16).all()
    assert (pixels(path, (0, 2000)) != pixels(path)).any()  # the site's window is one of intensities


def test_names_by_uid_and_wrong_suffixes(tmp_path: Path):
    names = ["1.3.6.1.4.1.14519.5.2.1.7009.2403", "IM000001", "a.IMA", "b.png"]
    (tmp_path / "x").mkdir()
    for name in names:
        (tmp_path / "x" / name).write_bytes(CT.read_bytes())
    samples = modalities.load("image").read(tmp_path, Reading())
    assert [s.content.path.name for s in samples] == sorted(names)
    assert all((pixels(s.content.path) == pixels(CT)).all() for s in samples)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data[: len(data) // 2], r"no readable pixels.*repair the file"),
        (
            lambda data: data.replace(
                struct.pack("<HH", 0x28, 0x100) + b"US", struct.pack("<HH", 0x28, 0x999) + b"US"
            ),
            "no readable pixels",
        ),
        (lambda data: data[132:], r"unreadable DICOM.*dcmconv"),
        (
            lambda data: data.replace(struct.pack("<HH", 0x7FE0, 0x10), struct.pack("<HH", 0x7FE1, 0x10)),
            "no image in it",
        ),
    ],
    ids=["cut", "without BitsAllocated", "without preamble", "without pixels"],
)
@pytest.mark.filterwarnings("ignore")  # pydicom tells what it finds
def test_damaged_files_are_refused_by_name(damage, problem: str, tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(damage(CT.read_bytes()))
    with pytest.raises(DataError, match=rf"(?s)a\.dcm: {problem}"):
        open_image(Picture(tmp_path / "a.dcm"))


def test_tokens_of_an_older_reading_are_not_taken(tmp_path: Path):
    assert Picture(CT).fingerprint() != CT.read_bytes()
