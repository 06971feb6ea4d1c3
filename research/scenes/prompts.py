"""Prompts made for rendered scenes, each with what its picture must show."""

from __future__ import annotations

import numpy as np
from fedgram.data.boxes import only_relation
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import DataError

from research.scenes.scenes import Scene, World
from research.scenes.words import SKILLS, portray

_FRUITLESS = 200  # draws that give no new prompt: there are no more


def describe(skill: str, scene: Scene, text: str) -> Prompt:
    """The prompt, with its metadata, of a scene and text from :func:`~research.scenes.words.portray`.

    Raises:
        DataError: the scene of a position shows none.
    """
    looks = [(t.shape, t.colour) for t in scene.things]
    if skill == "counting":
        shape, count = looks[0][0], len(looks)
        return Prompt(text, skill, (Wanted(shape, count),), (Wanted(shape, count + 1),))
    if skill == "position":
        (first, _), (second, _) = looks
        relation = only_relation(scene.things[0].box, scene.things[1].box)
        if relation is None:
            raise DataError("no clear position", where=f"scene of {text!r}", expected="one thing beside the other")
        return Prompt(text, skill, (Wanted(second, 1), Wanted(first, 1, position=(relation, 0))))
    coloured = skill in ("colors", "color_attr")
    return Prompt(text, skill, tuple(Wanted(s, 1, c if coloured else None) for s, c in looks))


def make_prompts(world: World, each: int, seed: int) -> list[Prompt]:
    """Make up to ``each`` different prompts of each skill: fewer where the world has no more.

    Raises:
        ConfigError: a world with too few colours or shapes for a skill.
    """
    generator = np.random.default_rng(seed)
    prompts = []
    for skill in SKILLS:
        found: dict[str, Prompt] = {}
        fruitless = 0
        while len(found) < each and fruitless < _FRUITLESS:
            scene, text = portray(skill, generator, world)
            fruitless = fruitless + 1 if text in found else 0
            found.setdefault(text, describe(skill, scene, text))
        prompts += found.values()
    return prompts
