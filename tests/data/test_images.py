"""Folders of images, tables of paths, masks; PNG, JPEG, TIFF and real DICOM files."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
from fedgram import modalities
from fedgram.config.site import Columns, Reading, TaskName
from fedgram.data.pixels import Picture, open_image, open_mask
from fedgram.errors import DataError
from fedgram.records import Sample
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from site_data import write_image

DICOM = sorted((Path(pydicom.data.__file__).parent / "test_files").glob("*.dcm"))
"""Files of real scanners that come with pydicom: compressed and not, damaged, and of everything but images."""
CT = next(path for path in DICOM if path.name == "CT_small.dcm")


def read(path: Path, task: TaskName = "classification", labels: str | None = None, **columns: str) -> list[Sample]:
    return modalities.load("image").read(path, Reading(Columns(**columns), task, labels))


def pixels(path: Path, window: tuple[float, float] | None = None) -> np.ndarray:
    return np.asarray(open_image(Picture(path, window)))[..., 0]


def test_a_table_of_paths(tmp_path: Path):
    for seed, name in enumerate(("a.png", "deep/b.JPG", "c.tiff")):
        write_image(tmp_path / "pictures" / name, seed)
    table = tmp_path / "table.csv"
    table.write_text("path,concept,group\npictures/a.png,x,1\npictures/deep/b,y,2\npictures/c.tiff,x,1\n")
    samples = read(table)
    assert [(s.concept, s.group, s.content.path.name) for s in samples] == [
        ("x", "1", "a.png"),
        ("y", "2", "b.JPG"),
        ("x", "1", "c.tiff"),
    ]
    table.write_text(table.read_text().replace("pictures/", ""))
    assert read(tmp_path / "pictures", labels=str(table)) == samples
    table.write_text(table.read_text().replace("c.tiff", "patient-17.tiff"))
    with pytest.raises(DataError, match=r"table\.csv, row 3: column 'path' names no file") as caught:
        read(tmp_path / "pictures", labels=str(table))
    assert "patient-17" not in str(caught.value)


def test_a_name_without_suffix_must_be_one_file(tmp_path: Path):
    write_image(tmp_path / "a.png", 0)
    write_image(tmp_path / "a.jpg", 0)
    (tmp_path / "table.csv").write_text("path,concept,group\na,x,1\n")
    with pytest.raises(DataError, match="row 1: column 'path' names more than one file"):
        read(tmp_path / "table.csv")


def test_folders_of_a_split(tmp_path: Path):
    for seed, name in enumerate(("train/x/p1/a.png", "train/y/b.png", "val/x/c.png", "test/y/d.png")):
        write_image(tmp_path / name, seed)
    found = {s.id: (s.split, s.concept, s.group) for s in read(tmp_path)}
    assert found == {
        "test/y/d.png": ("test", "y", "test/y/d.png"),
        "train/x/p1/a.png": ("train", "x", "p1"),
        "train/y/b.png": ("train", "y", "train/y/b.png"),
        "val/x/c.png": ("validation", "x", "val/x/c.png"),
    }


def test_images_and_masks(tmp_path: Path):
    for seed, name in enumerate(("p1/a.jpg", "b.png")):
        write_image(tmp_path / "images" / name, seed)
        write_image((tmp_path / "masks" / name).with_suffix(".png"), seed)
    samples = read(tmp_path, "segmentation")
    assert [(s.id, s.group, Path(str(s.target)).name) for s in samples] == [
        ("b.png", "b.png", "b.png"),
        ("p1/a.jpg", "p1", "a.png"),
    ]
    (tmp_path / "masks" / "b.png").unlink()
    with pytest.raises(DataError, match=r"images/b\.png: its mask's place names no file"):
        read(tmp_path, "segmentation")
    with pytest.raises(DataError, match="two folders, images and masks"):
        read(tmp_path / "images", "segmentation")
    (tmp_path / "t.csv").write_text("path,mask,patient\nimages/p1/a.jpg,masks/p1/a,7\n")
    (sample,) = read(tmp_path / "t.csv", "segmentation", group="patient")
    assert sample.target == tmp_path / "masks" / "p1" / "a.png"


def test_a_folder_has_no_number_to_predict(tmp_path: Path):
    write_image(tmp_path / "x" / "a.png", 0)
    with pytest.raises(DataError, match=r"(?s)no target for regression.*`labels`"):
        read(tmp_path, "regression")


def test_more_than_8_bits_need_a_window(tmp_path: Path):
    values = np.array([[0, 1000], [2000, 4095]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        Image.fromarray(values).save(tmp_path / name)
        with pytest.raises(DataError, match=r"(?s)pixel format I;16.*window = \[lowest, highest\]"):
            open_image(Picture(tmp_path / name))
        assert pixels(tmp_path / name, (1000, 3000)).tolist() == [[0, 0], [128, 255]]


def test_what_is_no_single_image(tmp_path: Path):
    frames = [Image.new("L", (4, 4), i) for i in range(3)]
    frames[0].save(tmp_path / "stack.tif", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"stack\.tif: 3 frames in one file"):
        open_image(Picture(tmp_path / "stack.tif"))
    write_image(tmp_path / "cut.png", 0)
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:200])
    with pytest.raises(DataError, match=r"cut\.png: unreadable image"):
        open_image(Picture(tmp_path / "cut.png"))


def test_photographs_stand_upright(tmp_path: Path):
    image = Image.new("RGB", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by 90°
    image.save(tmp_path / "a.jpg", exif=exif)
    assert open_image(Picture(tmp_path / "a.jpg")).size == (4, 8)


@pytest.mark.filterwarnings("ignore")  # pydicom tells what it mends
@pytest.mark.parametrize("path", DICOM, ids=lambda path: path.stem)
def test_every_dicom_file_opens_or_is_refused_by_name(path: Path):
    refusal, image = "", None
    try:
        image = open_image(Picture(path))
    except DataError as error:
        refusal = str(error)
    assert (path.name in refusal) == (image is None)
    assert image is None or (image.mode == "RGB" and np.ptp(np.asarray(image)) > 50)


def test_the_common_encodings_of_dicom_are_among_those_that_open():
    for name in ("CT_small", "MR_small_RLE", "SC_rgb_jpeg_dcmtk", "JPEG2000", "examples_palette", "liver_1frame"):
        assert np.ptp(np.asarray(open_image(Picture(CT.with_stem(name))))) > 50, name


def test_dicom_windows_in_hounsfield_units():
    dataset = dcmread(CT)
    hounsfield = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    for low, high in ((-160.0, 240.0), (-1000.0, 1000.0)):
        expected = np.clip((hounsfield - low) / (high - low), 0, 1) * 255
        assert np.abs(pixels(CT, (low, high)) - expected).max() <= 0.5
    whole = pixels(CT)
    assert (whole.min(), whole.max()) == (0, 255)  # it names no window: all of its range


def changed(tmp_path: Path, **elements: object) -> Path:
    dataset = dcmread(CT)
    for name, value in elements.items():
        setattr(dataset, name, value)
    dataset.save_as(tmp_path / "changed.dcm")
    return tmp_path / "changed.dcm"


def test_the_file_s_own_window(tmp_path: Path):
    path = changed(tmp_path, WindowCenter=["40", "300"], WindowWidth=["400", "1500"])
    assert (pixels(path) == pixels(CT, (-160, 240))).all()
    assert (pixels(path, (0, 100)) == pixels(CT, (0, 100))).all()  # the site's comes first


def test_monochrome1_is_turned_round(tmp_path: Path):
    path = changed(tmp_path, PhotometricInterpretation="MONOCHROME1")
    assert np.abs(255 - pixels(path, (-160, 240)).astype(int) - pixels(CT, (-160, 240))).max() <= 1


def test_a_look_up_table(tmp_path: Path):
    table = Dataset()
    table.LUTDescriptor = [4096, 0, 12]
    table.add_new("LUTData", "US", [4095 - i for i in range(4096)])
    path = changed(tmp_path, VOILUTSequence=[table], RescaleIntercept="0")
    expected = (4095 - dcmread(CT).pixel_array.clip(0, 4095)) / 4095 * 255
    assert np.abs(pixels(path) - expected).max() <= 0.5
    table.add_new("LUTData", "OW", b"too short")
    with pytest.raises(DataError, match=r"changed\.dcm: no readable pixels"):
        pixels(changed(tmp_path, VOILUTSequence=[table]))


def test_a_dicom_folder_is_grouped_by_patient(tmp_path: Path):
    (tmp_path / "flu").mkdir()
    shutil.copy(CT, tmp_path / "flu" / "IM000001")  # archives write no suffix
    shutil.copy(CT, tmp_path / "flu" / "b.dcm")
    write_image(tmp_path / "flu" / "c.png", 0)
    groups = {s.id: s.group for s in read(tmp_path)}
    assert groups == {"flu/IM000001": "1CT1", "flu/b.dcm": "1CT1", "flu/c.png": "flu/c.png"}


def test_without_pydicom(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"(?s)pydicom is not installed.*fedgram\[formats\]"):
        open_image(Picture(CT))


def test_the_window_is_part_of_what_is_seen(tmp_path: Path):
    assert len({Picture(CT, window).fingerprint() for window in (None, (0.0, 1.0), (0.0, 2.0))}) == 3


def test_masks(tmp_path: Path):
    classes = np.array([[0, 3], [255, 3]], dtype=np.uint8)
    palette = Image.fromarray(classes % 4).convert("P")
    for name, image in {
        "a.png": Image.fromarray(classes),
        "b.tif": Image.fromarray(classes.astype(np.uint16)),
        "grey.png": Image.fromarray(np.stack([classes] * 3, -1)),
        "bits.png": Image.fromarray(classes > 0),
    }.items():
        image.save(tmp_path / name)
        expected = classes > 0 if name == "bits.png" else classes
        assert (open_mask(tmp_path / name) == expected).all()
    palette.save(tmp_path / "palette.png")
    assert open_mask(tmp_path / "palette.png").shape == (2, 2)


def test_what_is_no_mask(tmp_path: Path):
    write_image(tmp_path / "a.jpg", 0)
    with pytest.raises(DataError, match=r"a\.jpg: a JPEG file"):
        open_mask(tmp_path / "a.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 9, (4, 4, 3), dtype=np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match=r"b\.png: pixel format RGB"):
        open_mask(tmp_path / "b.png")
    Image.fromarray(np.full((2, 2), 300, dtype=np.uint16)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png: pixel format I;16"):
        open_mask(tmp_path / "c.png")
    (tmp_path / "d.png").write_text("no picture")
    with pytest.raises(DataError, match=r"d\.png: unreadable mask"):
        open_mask(tmp_path / "d.png")


def png16(path: Path, colour: int, channels: int) -> Path:
    """A PNG of 2 × 2 pixels with 16 bits a channel, which Pillow does not write."""
    rows = b"".join(b"\0" + bytes([1, 2] * 2 * channels) for _ in range(2))
    chunks = (b"IHDR" + struct.pack(">IIBBBBB", 2, 2, 16, colour, 0, 0, 0), b"IDAT" + zlib.compress(rows), b"IEND")
    framed = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(framed))
    return path


def tiff16(path: Path, values: np.ndarray, photometric: int) -> Path:
    """An uncompressed TIFF of 16 bits a channel, (H, W) or (H, W, 3)."""
    height, width, *channels = values.shape
    samples = channels[0] if channels else 1
    tags = [(256, width), (257, height), (258, 16), (259, 1), (262, photometric), (273, 200), (277, samples)]
    tags += [(278, height), (279, values.nbytes)]
    entries = b"".join(
        struct.pack("<HHII", 258, 3, 3, 180)
        if tag == 258 and samples == 3
        else struct.pack("<HHIHH", tag, 3, 1, value, 0)
        for tag, value in tags
    )
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
    head = head.ljust(180, b"\0") + struct.pack("<HHH", 16, 16, 16)
    path.write_bytes(head.ljust(200, b"\0") + values.astype("<u2").tobytes())
    return path


def test_colours_of_16_bits_are_not_cut_to_8(tmp_path: Path):
    colours = np.full((2, 2, 3), 258, dtype=np.uint16)
    for path in (
        png16(tmp_path / "rgb.png", 2, 3),
        png16(tmp_path / "grey_alpha.png", 4, 2),
        png16(tmp_path / "rgb_alpha.png", 6, 4),
        tiff16(tmp_path / "rgb.tif", colours, 2),
    ):
        for window in (None, (0.0, 1000.0)):
            with pytest.raises(DataError, match=rf"(?s){path.name}: pixel format .* of 16 bits.*8 bits a channel"):
                open_image(Picture(path, window))
        with pytest.raises(DataError, match=rf"{path.name}: (pixel format|transparent)"):
            open_mask(path)
    assert pixels(png16(tmp_path / "grey.png", 0, 1), (0, 1020)).tolist() == [[64, 64], [64, 64]]  # 258 of 1020


def test_a_tiff_in_which_zero_is_white(tmp_path: Path):
    values = np.array([[0, 500], [1000, 2000]])
    assert pixels(tiff16(tmp_path / "b.tif", values, 1), (0, 1000)).tolist() == [[0, 128], [255, 255]]
    assert pixels(tiff16(tmp_path / "w.tif", values, 0), (0, 1000)).tolist() == [[255, 128], [0, 0]]


def test_what_is_transparent_is_white(tmp_path: Path):
    hidden = np.array(
        [[[200, 10, 10, 255], [200, 10, 10, 0]], [[200, 10, 10, 128], [0, 0, 0, 255]]], dtype=np.uint8
    )
    image = Image.fromarray(hidden)
    image.save(tmp_path / "rgba.png")
    image.save(tmp_path / "rgba.webp", lossless=True, exact=True)
    for name in ("rgba.png", "rgba.webp"):
        shown = np.asarray(open_image(Picture(tmp_path / name)))
        assert shown[0].tolist() == [[200, 10, 10], [255, 255, 255]]
        assert np.abs(shown[1, 0].astype(int) - [227, 132, 132]).max() <= 1
        assert shown[1, 1].tolist() == [0, 0, 0]
    Image.fromarray(hidden[..., [0, 3]], "LA").save(tmp_path / "la.png")
    assert pixels(tmp_path / "la.png")[0].tolist() == [200, 255]
    palette = Image.new("P", (2, 1))
    palette.putpalette([9, 9, 9, 7, 7, 7])
    palette.putpixel((1, 0), 1)
    for name in ("p.png", "p.gif"):
        palette.save(tmp_path / name, transparency=1)
        assert pixels(tmp_path / name).tolist() == [[9, 255]]


def test_opaque_images_are_as_they_are(tmp_path: Path):
    colours = np.random.default_rng(0).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    for name, image in {
        "rgb.png": Image.fromarray(colours),
        "rgb.bmp": Image.fromarray(colours),
        "rgba.png": Image.fromarray(colours).convert("RGBA"),
        "rgb.webp": Image.fromarray(colours),
    }.items():
        image.save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
        assert (np.asarray(open_image(Picture(tmp_path / name))) == colours).all()
        assert (Picture(tmp_path / name).fingerprint() == (tmp_path / name).read_bytes()) == (name != "rgba.png")


def test_a_moving_picture_is_no_image(tmp_path: Path):
    frames = [Image.new("L", (4, 4), 99 * i) for i in range(3)]
    for name in ("a.gif", "a.png", "a.webp"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        for opened in (lambda path: open_image(Picture(path)), open_mask):
            with pytest.raises(DataError, match=rf"{name}: 3 frames in one file"):
                opened(tmp_path / name)


def test_an_image_larger_than_pillow_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("1", (40, 40)).save(tmp_path / "a.png")
    for limit in (1000, 100):  # Pillow warns above the limit and refuses above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        with pytest.raises(
            DataError, match=rf"(?s)a\.png: image of more pixels.*{2 * limit}.*too large: scale it down"
        ):
            open_image(Picture(tmp_path / "a.png"))


def test_only_formats_of_images_are_opened(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n")
    with pytest.raises(DataError, match=r"a\.png: unreadable image"):  # PostScript is a program
        open_image(Picture(tmp_path / "a.png"))


def test_values_that_are_no_numbers_are_black(tmp_path: Path):
    Image.fromarray(np.array([[np.nan, 1.0]], dtype=np.float32)).save(tmp_path / "a.tif")
    assert pixels(tmp_path / "a.tif", (-1, 1)).tolist() == [[0, 255]]


def test_concepts_and_groups_have_composed_letters(tmp_path: Path):
    write_image(tmp_path / "Ba\u0308r" / "Ja\u0308n" / "a\u0308.png", 0)
    (sample,) = read(tmp_path)
    assert (sample.id, sample.concept, sample.group, sample.target) == ("Bär/Jän/ä.png", "Bär", "Jän", "Bär")
    assert open_image(sample.content).size == (28, 28)


def test_what_systems_leave_in_folders(tmp_path: Path):
    for name in ("x/a.png", "__MACOSX/x/._a.png"):
        write_image(tmp_path / name, 0)
    for name in ("x/Thumbs.db", "x/.DS_Store", "desktop.ini", "labels.csv"):
        (tmp_path / name).write_bytes(b"\0" * 200)
    assert [s.id for s in read(tmp_path)] == ["x/a.png"]
    write_image(tmp_path / "b.png", 0)
    with pytest.raises(DataError, match=r"b\.png: an image outside of the concepts' folders"):
        read(tmp_path)


def test_masks_of_dicom_files_named_by_their_uid(tmp_path: Path):
    for name in ("1.2.840.113", "1.2.840.114"):
        (tmp_path / "images").mkdir(exist_ok=True)
        shutil.copy(CT, tmp_path / "images" / name)
        write_image(tmp_path / "masks" / f"{name}.png", 0)
    assert [Path(str(s.target)).name for s in read(tmp_path, "segmentation")] == [
        "1.2.840.113.png",
        "1.2.840.114.png",
    ]


def test_masks_with_transparency(tmp_path: Path):
    classes = np.array([[0, 3]], dtype=np.uint8)
    for alpha in (255, 0):
        opacity = np.array([[255, alpha]], dtype=np.uint8)
        Image.fromarray(np.stack([classes, opacity], -1), "LA").save(tmp_path / f"la{alpha}.png")
        Image.fromarray(np.stack([classes] * 3 + [opacity], -1)).save(tmp_path / f"rgba{alpha}.png")
    for name in ("la", "rgba"):
        assert open_mask(tmp_path / f"{name}255.png").tolist() == classes.tolist()
        with pytest.raises(DataError, match=rf"{name}0\.png: transparent pixels in a mask"):
            open_mask(tmp_path / f"{name}0.png")
