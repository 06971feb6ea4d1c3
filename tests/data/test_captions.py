"""Captions: COCO's published files, tables, every fault, and the way there and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from fedgram.data.captions import TABLE, read_captions
from fedgram.data.items import Caption
from fedgram.errors import DataError
from PIL import Image

from research.partition.writing import write_captions

COCO = {
    "images": [
        {"id": 9, "file_name": "COCO_val2014_000000000009.jpg", "height": 480},
        {"id": 10, "file_name": "b.png"},
    ],
    "annotations": [
        {"id": 661611, "image_id": 10, "caption": "A bear. "},
        {"id": 661977, "image_id": 9, "caption": "Two dogs."},
        {"id": 663627, "image_id": 10, "caption": "A brown bear."},
    ],
}


@pytest.fixture
def folder(tmp_path) -> Path:
    for number, name in enumerate(("COCO_val2014_000000000009.jpg", "b.png")):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / name)
    return tmp_path


def coco(folder: Path, record: object) -> Path:
    (folder / "captions_val2014.json").write_text(json.dumps(record))
    return folder / "captions_val2014.json"


def test_coco_is_read(folder):
    assert read_captions(coco(folder, COCO)) == [
        Caption(id="661611", image=folder / "b.png", text="A bear."),
        Caption(id="661977", image=folder / "COCO_val2014_000000000009.jpg", text="Two dogs."),
        Caption(id="663627", image=folder / "b.png", text="A brown bear."),
    ]


def test_tables_are_read(folder):
    table = folder / "captions.csv"
    table.write_text("path,text,id,concept,split\nb.png,a bear,x1,bear,Train\nb,another,x2,,\n")
    assert read_captions(table) == [
        Caption(id="x1", image=folder / "b.png", text="a bear", concept="bear", split="train"),
        Caption(id="x2", image=folder / "b.png", text="another"),
    ]
    table.write_text("path,text\nb.png,a bear\n")
    assert read_captions(table) == [Caption(id="1", image=folder / "b.png", text="a bear")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("path\nb.png\n", "missing column 'text'"),
        ("text\na\n", "missing column 'path'"),
        ("path,text\nb.png,\n", "'text' is blank"),
        ("path,text\nc.png,a\n", "names no file"),
        ("path,text,id\nb.png,a,1\nb.png,b,1\n", "duplicate id"),
        ("path,text,split\nb.png,a,holdout\n", "names no split"),
    ],
)
def test_faults_of_a_table(folder, rows, message):
    (folder / "captions.csv").write_text(rows)
    with pytest.raises(DataError, match=message):
        read_captions(folder / "captions.csv")


def spoilt(**changes: object) -> dict[str, object]:
    return {**COCO, **changes}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([], "not a JSON object"),
        (spoilt(images=None), "'images'"),
        (spoilt(annotations=[]), "no captions"),
        (spoilt(annotations=[{"id": 1, "image_id": 11, "caption": "secret"}]), "names no image"),
        (spoilt(annotations=[{"id": 1, "image_id": 9}]), "'caption'"),
        (spoilt(annotations=[COCO["annotations"][0]] * 2), "repeats"),
        (spoilt(images=[{"id": 9}, {"id": 10}]), "'file_name'"),
        (spoilt(images=[{"id": 10, "file_name": "gone.jpg"}]), "names no file"),
    ],
)
def test_faults_of_a_coco_file(folder, record, message):
    with pytest.raises(DataError, match=message) as error:
        read_captions(coco(folder, record))
    assert "secret" not in str(error.value)


def test_there_and_back(folder, tmp_path):
    captions = [replace(c, concept="animal", split="test") for c in read_captions(coco(folder, COCO))]
    write_captions(tmp_path / "copy", captions)
    again = read_captions(tmp_path / "copy" / TABLE)
    assert [replace(a, image=c.image) for a, c in zip(again, captions, strict=True)] == captions
    assert [a.image.read_bytes() for a in again] == [c.image.read_bytes() for c in captions]
    assert len({a.image for a in again}) == 2


def test_nothing_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="no captions"):
        write_captions(tmp_path, [])
