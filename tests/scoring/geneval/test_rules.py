"""GenEval's rules, worked by hand over things that a test places."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import DataError
from fedgram.scoring.geneval.rules import Detection, fault, score
from PIL import Image

PICTURE = Image.new("RGB", (100, 100))


class Placed:
    """Finds what it was told, with the colour that goes with each thing's score."""

    threshold = 0.3
    counting_threshold = 0.9

    def __init__(self, *things: Detection, colours: dict[float, str] | None = None):
        self.things, self.colours = things, colours or {}

    def find(self, image: Image.Image, labels: Sequence[str]) -> list[Detection]:
        return [thing for thing in self.things if thing.label in labels]

    def colour(self, image: Image.Image, detection: Detection) -> str:
        return self.colours[detection.score]


def at(label: str, x: float, y: float, score: float = 0.95) -> Detection:
    return Detection(label, (x, y, x + 10, y + 10), score)


def wants(tag: str, *include: Wanted, exclude: tuple[Wanted, ...] = ()) -> Prompt:
    return Prompt("words", tag, include, exclude)


BENCH = wants("single_object", Wanted("bench", 1))
TWO = wants("two_object", Wanted("bench", 1), Wanted("cup", 1))
THREE = wants("counting", Wanted("cup", 3), exclude=(Wanted("cup", 4),))
RED = wants("colors", Wanted("cup", 1, "red"))
LEFT = wants("position", Wanted("bench", 1), Wanted("cup", 1, position=("left of", 0)))
BOUND = wants("color_attr", Wanted("cup", 1, "red"), Wanted("bench", 1, "blue"))


def test_one_thing():
    assert fault(PICTURE, BENCH, Placed(at("bench", 0, 0))) is None
    assert fault(PICTURE, BENCH, Placed(at("bench", 0, 0), at("bench", 50, 0), at("cup", 0, 50))) is None
    assert fault(PICTURE, BENCH, Placed(at("cup", 0, 0))) == "expected 1 of bench, found 0"


def test_the_threshold_itself_does_not_count():
    assert fault(PICTURE, BENCH, Placed(at("bench", 0, 0, 0.31))) is None
    assert fault(PICTURE, BENCH, Placed(at("bench", 0, 0, 0.3))) is not None


def test_two_things():
    assert fault(PICTURE, TWO, Placed(at("bench", 0, 0), at("cup", 50, 0))) is None
    assert fault(PICTURE, TWO, Placed(at("bench", 0, 0), at("bench", 50, 0))) == "expected 1 of cup, found 0"


def test_counting_is_exact_and_takes_only_certain_things():
    cups = [at("cup", 20.0 * i, 0) for i in range(4)]
    doubtful = at("cup", 0, 50, 0.9)
    assert fault(PICTURE, THREE, Placed(*cups[:3])) is None
    assert fault(PICTURE, THREE, Placed(*cups[:3], doubtful)) is None
    assert fault(PICTURE, THREE, Placed(*cups[:2], doubtful)) == "expected 3 of cup, found 2"
    assert fault(PICTURE, THREE, Placed(*cups)) == "expected fewer than 4 of cup, found 4"


def test_the_colour_is_that_of_the_most_certain():
    sure, unsure = at("cup", 0, 0, 0.8), at("cup", 50, 0, 0.5)
    assert fault(PICTURE, RED, Placed(unsure, sure, colours={0.8: "red", 0.5: "blue"})) is None
    wrong = fault(PICTURE, RED, Placed(unsure, sure, colours={0.8: "blue", 0.5: "red"}))
    assert wrong == "expected red for cup, found blue"


def test_position():
    bench = at("bench", 50, 50)
    assert fault(PICTURE, LEFT, Placed(bench, at("cup", 10, 50))) is None
    assert fault(PICTURE, LEFT, Placed(bench, at("cup", 80, 50))) == "expected cup left of the other"
    assert fault(PICTURE, LEFT, Placed(bench, at("cup", 48.5, 50))) is not None  # within the margin
    assert fault(PICTURE, LEFT, Placed(at("cup", 10, 50))) == (
        "expected 1 of bench, found 0; nothing for cup to be left of"
    )


def test_colours_belong_to_their_things():
    things = (at("cup", 0, 0, 0.8), at("bench", 50, 0, 0.7))
    assert fault(PICTURE, BOUND, Placed(*things, colours={0.8: "red", 0.7: "blue"})) is None
    assert fault(PICTURE, BOUND, Placed(*things, colours={0.8: "blue", 0.7: "red"})) is not None


def test_sixteen_of_a_label_count():
    many = wants("single_object", Wanted("cup", 1), exclude=(Wanted("cup", 17),))
    assert fault(PICTURE, many, Placed(*(at("cup", i, 0, 0.5) for i in range(20)))) is None


def test_scores_are_means_over_skills():
    """2 of 3 and 0 of 1: the mean of the skills is 1/3, that of the pictures would be 1/2."""
    found = Placed(at("bench", 0, 0))
    scores = score([BENCH, BENCH, wants("single_object", Wanted("cup", 1)), TWO], [PICTURE] * 4, found)
    assert scores == pytest.approx({"single_object": 2 / 3, "two_object": 0.0, "overall": 1 / 3})


@pytest.mark.parametrize(("prompts", "images"), [([], []), ([BENCH], []), ([BENCH], [PICTURE] * 2)])
def test_a_picture_each_is_needed(prompts, images):
    with pytest.raises(DataError, match="pictures"):
        score(prompts, images, Placed())
