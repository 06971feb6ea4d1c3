"""The embedded data go through the readers of real data."""

from __future__ import annotations

from collections import Counter
from zipfile import ZipFile

import pytest
from fedgram.data.captions import TABLE, read_captions
from fedgram.data.prompts import Prompt, Wanted
from fedgram.data.vqa import read_vqa
from fedgram.demo.names import locate
from fedgram.demo.shapes import SHAPES
from fedgram.errors import ConfigError, DataError
from fedgram.scoring.geneval.exact import ExactDetector
from fedgram.scoring.geneval.rules import fault
from fedgram.scoring.vqa_score import soft_accuracy
from PIL import Image

from research.partition.writing import write_vqa
from research.scenes import demo
from research.scenes.data import silhouette_questions, write_scene_captions, write_scene_questions
from research.scenes.scenes import World


def test_scene_questions(tmp_path):
    write_scene_questions(tmp_path, "train", 24, 1, World(), pixels=32)
    questions = read_vqa(tmp_path)
    assert Counter(q.kind for q in questions) == {"yes/no": 8, "number": 4, "other": 12}
    assert {q.concept for q in questions} <= set(SHAPES)
    assert all(soft_accuracy(q.answer, q.answers) == 1.0 for q in questions)
    with Image.open(questions[0].image) as picture:
        assert picture.size == (32, 32)
    write_scene_questions(tmp_path / "again", "train", 24, 1, World(), pixels=32)
    assert [(q.text, q.answer) for q in read_vqa(tmp_path / "again")] == [(q.text, q.answer) for q in questions]


def test_scene_captions_are_true(tmp_path):
    write_scene_captions(tmp_path, 12, 2, World(), skills=("colors",))
    for caption in read_captions(tmp_path / TABLE):
        colour, shape = caption.text.split()[-2:]
        prompt = Prompt(caption.text, "colors", (Wanted(shape, 1, colour),))
        assert caption.concept == shape
        with Image.open(caption.image) as picture:
            assert fault(picture, prompt, ExactDetector()) is None


def test_silhouettes(tmp_path):
    questions = silhouette_questions(locate("demo:carnivora/image", tmp_path))
    assert len(questions) == 2400
    assert Counter(q.kind for q in questions) == {"other": 1200, "yes/no": 1200}
    assert Counter(q.concept for q in questions) == {"dog": 800, "cat": 800, "bear": 800}
    said = Counter(q.answer for q in questions)
    assert said["yes"] / 1200 == pytest.approx(0.5, abs=0.05)
    for question in questions[:400]:
        named = question.text.rstrip("?").split()[-1]
        expected = question.concept if question.kind == "other" else ("yes" if named == question.concept else "no")
        assert question.answer == expected
    write_vqa(tmp_path / "vqa", "train", questions[:20])
    assert [q.text for q in read_vqa(tmp_path / "vqa")] == [q.text for q in questions[:20]]


def test_what_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no silhouettes"):
        silhouette_questions(tmp_path)
    with pytest.raises(ConfigError, match="topics"):
        write_scene_questions(tmp_path, "train", 1, 0, World(), topics=())
    with pytest.raises(ConfigError, match="skills"):
        write_scene_captions(tmp_path, 1, 0, World(), skills=())
    with pytest.raises(DataError, match="no questions"):
        write_scene_questions(tmp_path, "train", 0, 0, World())


@pytest.mark.slow
def test_the_embedded_demo_is_what_is_drawn(tmp_path):
    """The same files to the byte, and packed alike."""
    demo.build(tmp_path / "built", tmp_path)
    demo.pack(tmp_path / "built", tmp_path / "again.zip")
    with ZipFile(tmp_path / "again.zip") as again, ZipFile(demo.ARCHIVE) as shipped:
        assert again.namelist() == shipped.namelist()
        assert all(again.read(name) == shipped.read(name) for name in shipped.namelist())
