"""Prompts made for scenes, and what they say their pictures must show."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import ConfigError, DataError

from research.scenes.prompts import describe, make_prompts
from research.scenes.scenes import Scene, Thing, World
from research.scenes.words import SKILLS


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
