"""Prompts made for rendered scenes, each with what its picture must show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def write_prompts(path: Path, prompts: list[Prompt]) -> None:
    """Write prompts in the published format, one a line."""
    lines = [json.dumps(_record(prompt)) for prompt in prompts]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _record(prompt: Prompt) -> dict[str, Any]:
    record = {"tag": prompt.tag, "include": [_entry(w) for w in prompt.include]}
    if prompt.exclude:
        record["exclude"] = [_entry(w) for w in prompt.exclude]
    return record | {"prompt": prompt.text}


def _entry(wanted: Wanted) -> dict[str, Any]:
    entry: dict[str, Any] = {"class": wanted.label, "count": wanted.count}
    if wanted.colour is not None:
        entry["color"] = wanted.colour
    if wanted.position is not None:
        entry["position"] = list(wanted.position)
    return entry
