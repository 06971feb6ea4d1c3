"""Prompts in GenEval's published format."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from fedgram.demo.scene_words import SKILLS
from fedgram.demo.scenes import Scene, Thing, World
from fedgram.errors import ConfigError, DataError
from fedgram.scoring.geneval.prompts import Prompt, Wanted, describe, make_prompts, read_prompts, write_prompts

# Two lines as they stand in the published file.
PUBLISHED = """\
{"tag": "counting", "include": [{"class": "clock", "count": 2}], "exclude": [{"class": "clock", "count": 3}], "prompt": "a photo of two clocks"}
{"tag": "position", "include": [{"class": "teddy bear", "count": 1}, {"class": "dog", "count": 1, "position": ["right of", 0]}], "prompt": "a photo of a dog right of a teddy bear"}
{"tag": "colors", "include": [{"class": "fire hydrant", "count": 1, "color": "blue"}], "prompt": "a photo of a blue fire hydrant"}
"""  # noqa: E501


def test_published_lines_are_read(tmp_path):
    (tmp_path / "p.jsonl").write_text(PUBLISHED)
    assert read_prompts(tmp_path / "p.jsonl") == [
        Prompt("a photo of two clocks", "counting", (Wanted("clock", 2),), (Wanted("clock", 3),)),
        Prompt(
            "a photo of a dog right of a teddy bear",
            "position",
            (Wanted("teddy bear", 1), Wanted("dog", 1, position=("right of", 0))),
        ),
        Prompt("a photo of a blue fire hydrant", "colors", (Wanted("fire hydrant", 1, "blue"),)),
    ]


def test_written_as_published(tmp_path):
    (tmp_path / "p.jsonl").write_text(PUBLISHED)
    write_prompts(tmp_path / "again.jsonl", read_prompts(tmp_path / "p.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "again.jsonl").read_text().splitlines()]
    assert lines == [json.loads(line) for line in PUBLISHED.splitlines()]


@pytest.mark.parametrize(
    "line",
    [
        "not json",
        "{}",
        '{"prompt": "x", "tag": "y", "include": [{"count": 1}]}',
        '{"prompt": "x", "tag": "y", "include": [{"class": "a", "count": 1, "position": ["under", 0]}]}',
        '{"prompt": "x", "tag": "y", "include": [{"class": "a", "count": 1, "position": ["above", 0]}]}',
    ],
)
def test_a_wrong_line_is_named(tmp_path, line):
    (tmp_path / "p.jsonl").write_text(PUBLISHED + line + "\n")
    with pytest.raises(DataError, match="line 4") as error:
        read_prompts(tmp_path / "p.jsonl")
    assert "evil" not in str(error.value)


def test_no_file_and_no_prompts(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_text("\n")
    with pytest.raises(DataError, match="no prompts"):
        read_prompts(tmp_path / "p.jsonl")


def test_made_prompts_are_different_and_repeatable():
    prompts = make_prompts(World(), 5, seed=1)
    assert Counter(p.tag for p in prompts) == dict.fromkeys(SKILLS, 5)
    assert len({p.text for p in prompts}) == len(prompts)
    assert prompts == make_prompts(World(), 5, seed=1)
    assert prompts != make_prompts(World(), 5, seed=2)


def test_a_small_world_has_no_more_prompts():
    prompts = make_prompts(World(colours=("red", "blue"), shapes=("star", "cross"), most=3), 50, seed=0)
    counts = Counter(p.tag for p in prompts)
    # 2 shapes; 2 ordered pairs; 2 shapes × 2 numbers; 2 × 2; 2 pairs × 4 relations; 2 pairs × 2 orders of colours
    assert [counts[skill] for skill in SKILLS] == [2, 2, 4, 4, 8, 4]
    with pytest.raises(ConfigError, match="shapes"):
        make_prompts(World(shapes=("star",)), 2, seed=0)


def test_metadata_worked_by_hand():
    row = Scene((Thing("red", "star", 0.2, 0.5, 0.3), Thing("blue", "square", 0.7, 0.5, 0.3)))
    twins = Scene((Thing("red", "star", 0.2, 0.5, 0.3), Thing("blue", "star", 0.7, 0.5, 0.3)))
    assert describe("two_object", row, "") == Prompt("", "two_object", (Wanted("star", 1), Wanted("square", 1)))
    assert describe("color_attr", row, "").include == (Wanted("star", 1, "red"), Wanted("square", 1, "blue"))
    assert describe("position", row, "").include == (
        Wanted("square", 1),
        Wanted("star", 1, position=("left of", 0)),
    )
    assert describe("counting", twins, "") == Prompt("", "counting", (Wanted("star", 2),), (Wanted("star", 3),))


def test_a_position_that_nobody_sees_is_refused():
    diagonal = Scene((Thing("red", "star", 0.2, 0.2, 0.3), Thing("blue", "square", 0.7, 0.7, 0.3)))
    with pytest.raises(DataError, match="no clear position"):
        describe("position", diagonal, "words")


def test_texts_say_what_the_metadata_say():
    for prompt in make_prompts(World(), 10, seed=3):
        for wanted in prompt.include:
            assert wanted.label in prompt.text
            assert (wanted.colour or "") in prompt.text
            assert (wanted.position or ("",))[0] in prompt.text
    assert np.all([p.text.startswith("a photo of ") for p in make_prompts(World(), 3, seed=0)])
