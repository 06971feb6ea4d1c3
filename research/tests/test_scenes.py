"""Scenes: things keep apart, pictures show them, the same seed gives the same."""

from __future__ import annotations

import numpy as np
import pytest
from fedgram.demo.shapes import COLOURS, GROUND, SHAPES
from fedgram.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st

from research.scenes.scenes import Scene, Thing, World, draw, place, random_scene


def scenes(seed: int, count: int = 40):
    generator = np.random.default_rng(seed)
    return [random_scene(generator, World()) for _ in range(count)]


def test_things_keep_apart_and_inside():
    for scene in scenes(1):
        for i, thing in enumerate(scene.things):
            assert min(thing.box) >= 0
            assert max(thing.box) <= 1
            for other in scene.things[:i]:
                apart = max(abs(thing.x - other.x), abs(thing.y - other.y))
                assert apart >= (thing.size + other.size) / 2 + 1 / 8


def test_things_stand_on_the_squares_of_a_board():
    """So a tokeniser of 8 × 8 codes meets few patches; every row and column occurs."""
    sides = [side * 8 for scene in scenes(5) for thing in scene.things for side in thing.box]
    assert sides == [round(side) for side in sides]
    assert {round(side) for side in sides} == set(range(9))


def test_every_number_of_things_occurs():
    assert {len(scene.things) for scene in scenes(2)} == {1, 2, 3, 4}


def test_same_seed_same_scenes_and_pictures():
    assert scenes(3) == scenes(3)
    assert scenes(3) != scenes(4)
    assert draw(scenes(3)[0], 32).tobytes() == draw(scenes(3)[0], 32).tobytes()


@given(st.sampled_from(SHAPES), st.sampled_from(list(COLOURS)), st.sampled_from([24, 32]))
def test_a_thing_is_painted_where_it_is(shape, colour, pixels):
    thing = Thing(colour, shape, 0.4, 0.6, 0.35)
    picture = np.asarray(draw(Scene((thing,)), pixels)).astype(int)
    assert picture.shape == (pixels, pixels, 3)
    rows, columns = np.nonzero(np.abs(picture - GROUND).sum(2) > 60)
    found = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / pixels
    assert found == pytest.approx(np.array(thing.box), abs=1.5 / pixels)
    assert tuple(picture[int(0.6 * pixels), int(0.4 * pixels)]) == COLOURS[colour]


def test_a_square_is_worked_by_hand():
    """Its side is half of 8 pixels, its centre the middle: 4 × 4 pixels of its colour, the ground around."""
    picture = np.asarray(draw(Scene((Thing("red", "square", 0.5, 0.5, 0.5),)), 8))
    expected = np.full((8, 8, 3), GROUND)
    expected[2:6, 2:6] = COLOURS["red"]
    inner = np.abs(picture.astype(int) - expected)
    assert inner[3:5, 3:5].max() == 0
    assert inner.max() <= 30  # PIL's polygons reach half a fine pixel further


def test_shapes_differ():
    drawn = [np.asarray(draw(Scene((Thing("white", s, 0.5, 0.5, 0.3),)), 32)).astype(int) for s in SHAPES]
    for i, picture in enumerate(drawn):
        for other in drawn[:i]:
            assert (np.abs(picture - other).sum(2) > 200).sum() >= 10


def test_a_world_restricts():
    world = World(colours=("red", "blue"), shapes=("star",), most=2)
    generator = np.random.default_rng(0)
    things = [t for _ in range(30) for t in random_scene(generator, world).things]
    assert {t.colour for t in things} == {"red", "blue"}
    assert {t.shape for t in things} == {"star"}
    assert max(len(random_scene(generator, world).things) for _ in range(30)) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        {"colours": ("mauve",)},
        {"colours": ()},
        {"shapes": ("blob",)},
        {"shapes": ("star", "star")},
        {"most": 0},
        {"most": 5},
    ],
)
def test_a_wrong_world_is_refused(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        World(**wrong)


def test_more_than_four_things_are_refused():
    with pytest.raises(ConfigError, match="things in a scene"):
        place([("red", "star")] * 5, np.random.default_rng(0), World())
