"""Questions and prompts say what is true of their scene."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from fedgram.data.boxes import relations
from fedgram.demo.shapes import SHAPES
from fedgram.errors import ConfigError

from research.scenes.scenes import Scene, Thing, World, random_scene
from research.scenes.words import NUMBERS, SKILLS, TOPICS, ask, in_full, plural, portray, told, with_article

ROW = Scene((Thing("red", "star", 0.2, 0.5, 0.3), Thing("blue", "square", 0.7, 0.5, 0.3)))
SINGULAR = {plural(shape): shape for shape in SHAPES}


def truth(scene: Scene, text: str) -> str:
    """The answer, found from the words of the question: slow, and knows nothing of how it was made."""
    things = scene.things
    if found := re.fullmatch(r"is there an? (\w+) (\w+)\?", text):
        return "yes" if any((t.colour, t.shape) == found.groups() for t in things) else "no"
    if found := re.fullmatch(r"how many (\w+) are there\?", text):
        return str(sum(t.shape == SINGULAR[found[1]] for t in things))
    if found := re.fullmatch(r"what colour is the (\w+)\?", text):
        (only,) = [t for t in things if t.shape == found[1]]
        return only.colour
    if found := re.fullmatch(r"what shape is (\w+)\?", text):
        (only,) = [t for t in things if t.colour == found[1]]
        return only.shape
    if found := re.fullmatch(r"(?:is|where is) the (\w+) (left of|right of|above|below|from) the (\w+)\?", text):
        (one,), (other,) = ([t for t in things if t.shape == found[i]] for i in (1, 3))
        (holds,) = relations(one.box, other.box)
        return holds.removesuffix(" of") if found[2] == "from" else ("yes" if holds == found[2] else "no")
    raise ValueError(text)


def asked(topic: str, count: int = 400, world: World | None = None):
    generator, world = np.random.default_rng(5), world or World()
    made = (
        (scene, ask(scene, topic, generator, world))
        for scene in (random_scene(generator, world) for _ in range(count))
    )
    return [(scene, question) for scene, question in made if question is not None]


@pytest.mark.parametrize("topic", TOPICS)
def test_answers_are_true(topic):
    pairs = asked(topic)
    assert len(pairs) > 100
    for scene, question in pairs:
        assert question.answer == truth(scene, question.text), (scene, question)
        assert question.topic == topic


@pytest.mark.parametrize("topic", ["presence", "relation"])
def test_yes_and_no_are_balanced(topic):
    counts = Counter(question.answer for _, question in asked(topic, 1500))
    assert counts["yes"] / counts.total() == pytest.approx(0.5, abs=0.05)


def test_kinds_are_those_of_vqa():
    kinds = {topic: {q.kind for _, q in asked(topic, 60)} for topic in TOPICS}
    assert kinds == {
        "presence": {"yes/no"},
        "relation": {"yes/no"},
        "count": {"number"},
        "colour": {"other"},
        "shape": {"other"},
        "position": {"other"},
    }


def test_every_answer_occurs():
    assert {q.answer for _, q in asked("count", 800)} == {"0", "1", "2", "3", "4"}
    assert {q.answer for _, q in asked("position", 800)} == {"left", "right", "above", "below"}


def test_worked_by_hand():
    generator = np.random.default_rng(0)
    answers = {ask(ROW, "position", generator, World()) for _ in range(20)}
    assert {(a.text, a.answer) for a in answers if a} == {
        ("where is the star from the square?", "left"),
        ("where is the square from the star?", "right"),
    }


def test_what_is_not_clear_is_not_asked():
    twins = Scene((Thing("red", "star", 0.2, 0.2, 0.3), Thing("red", "star", 0.7, 0.7, 0.3)))
    generator = np.random.default_rng(0)
    assert [t for t in TOPICS if ask(twins, t, generator, World()) is None] == [
        "relation",
        "colour",
        "shape",
        "position",
    ]


def test_what_is_not_there_is_of_the_world():
    world = World(colours=("red", "blue"), shapes=("star", "cross"))
    for _, question in asked("presence", 200, world):
        assert re.fullmatch(r"is there a (red|blue) (star|cross)\?", question.text)


def fulfils(scene: Scene, text: str, skill: str) -> bool:
    said = text.removeprefix("a photo of ")
    looks = [(t.colour, t.shape) for t in scene.things]
    if skill == "counting":
        number, many = said.split(" ")
        return {s for _, s in looks} == {SINGULAR[many]} and NUMBERS[len(looks)] == number
    if skill == "position":
        first, relation, second = re.fullmatch(
            r"an? (\w+) (left of|right of|above|below) an? (\w+)", said
        ).groups()
        return [s for _, s in looks] == [first, second] and relation in relations(
            scene.things[0].box, scene.things[1].box
        )
    coloured = skill in ("colors", "color_attr")
    return said == " and ".join(with_article(f"{c} {s}" if coloured else s) for c, s in looks)


@pytest.mark.parametrize("skill", SKILLS)
def test_scenes_fulfil_their_prompts(skill):
    generator = np.random.default_rng(6)
    made = [portray(skill, generator, World()) for _ in range(100)]
    assert all(fulfils(scene, text, skill) for scene, text in made)
    assert len({text for _, text in made}) > 5
    sizes = {len(scene.things) for scene, _ in made}
    assert sizes == {"single_object": {1}, "colors": {1}, "counting": {2, 3, 4}}.get(skill, {2})


def test_a_caption_in_full_says_every_colour_and_place():
    star, circle = Thing("orange", "star", 0.2, 0.5, 0.3), Thing("red", "circle", 0.7, 0.5, 0.3)
    both = Scene((star, circle))
    assert in_full(Scene((star,)), "single_object") == "a photo of an orange star"
    assert in_full(both, "two_object") == "a photo of an orange star and a red circle"
    assert in_full(both, "position") == "a photo of an orange star left of a red circle"
    assert in_full(Scene((star, star)), "counting") == "a photo of an orange star and an orange star"


@pytest.mark.parametrize("skill", SKILLS)
def test_half_of_the_captions_are_prompts_and_half_say_all(skill):
    generator = np.random.default_rng(6)
    captions = [told(skill, generator, World()) for _ in range(200)]
    whole = [text == in_full(scene, skill) for scene, text in captions]
    assert all(full or fulfils(scene, text, skill) for full, (scene, text) in zip(whole, captions, strict=True))
    prompts_say_all = skill in ("colors", "color_attr")
    assert np.mean(whole) == 1.0 if prompts_say_all else 0.4 < np.mean(whole) < 0.6


def test_articles_and_plurals():
    assert [with_article("orange star"), with_article("red star")] == ["an orange star", "a red star"]
    assert [plural("cross"), plural("square")] == ["crosses", "squares"]


@pytest.mark.parametrize(
    ("skill", "world", "where"),
    [
        ("two_object", World(shapes=("star",)), "shapes"),
        ("color_attr", World(colours=("red",)), "colours"),
        ("counting", World(most=1), "most"),
        ("flying", World(), "skill"),
    ],
)
def test_a_skill_that_a_world_cannot_show_is_refused(skill, world, where):
    with pytest.raises(ConfigError, match=where):
        portray(skill, np.random.default_rng(0), world)


def test_an_unknown_topic_is_refused():
    with pytest.raises(ConfigError, match="topic"):
        ask(ROW, "weather", np.random.default_rng(0), World())
