"""Questions and prompts about a scene: few words, one grammar.

Questions have VQA v2's answer types. Prompts have the forms of GenEval's six skills, shapes in place of its
objects: "a photo of a circle", "a photo of three stars", "a photo of a red cross and a blue square".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from fedgram.data.boxes import OPPOSITE, only_relation
from fedgram.data.prompts import with_article
from fedgram.errors import ConfigError

from research.scenes.scenes import Scene, Thing, World, place

T = TypeVar("T")
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
_SIDES = {"left of": "left", "right of": "right", "above": "above", "below": "below"}


@dataclass(frozen=True)
class Asked:
    """A question about a scene, with the one right answer.

    Attributes:
        topic: one of :data:`TOPICS`.
        kind: VQA's answer type: ``yes/no``, ``number`` or ``other``.
    """

    text: str
    answer: str
    topic: str
    kind: str


def ask(scene: Scene, topic: str, generator: np.random.Generator, world: World) -> Asked | None:
    """Ask a question of the topic, or return None where the scene gives no unambiguous one.

    Half of the questions to be answered with yes or no have yes for an answer. Colours and shapes that are asked
    for without being there are those of ``world``.

    Raises:
        ConfigError: no such topic.
    """
    if topic not in _ASKERS:
        raise ConfigError(f"{topic!r}", where="topic", expected=" or ".join(TOPICS))
    kind, asker = _ASKERS[topic]
    asked = asker(scene, generator, world)
    return None if asked is None else Asked(*asked, topic, kind)


def portray(skill: str, generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    """Draw a scene and the GenEval prompt that it fulfils.

    Raises:
        ConfigError: no such skill, or a world with too few colours or shapes for it.
    """
    if skill not in _PORTRAYERS:
        raise ConfigError(f"{skill!r}", where="skill", expected=" or ".join(SKILLS))
    return _PORTRAYERS[skill](generator, world)


def in_full(scene: Scene, skill: str) -> str:
    """The caption that says all of a scene of a skill: all things with their colours, and where they stand."""
    looks = [with_article(f"{thing.colour} {thing.shape}") for thing in scene.things]
    joined = "and"
    if skill == "position":
        joined = only_relation(scene.things[0].box, scene.things[1].box) or joined
    return "a photo of " + f" {joined} ".join(looks)


def told(skill: str, generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    """Draw a scene with a caption to learn from: the GenEval prompt that it fulfils, or as often all of it.

    Raises:
        ConfigError: no such skill, or a world with too few colours or shapes for it.
    """
    scene, text = portray(skill, generator, world)
    return scene, in_full(scene, skill) if generator.random() < 0.5 else text


def plural(shape: str) -> str:
    return f"{shape}es" if shape.endswith("s") else f"{shape}s"


def _presence(scene: Scene, generator: np.random.Generator, world: World) -> tuple[str, str] | None:
    there = sorted({(t.colour, t.shape) for t in scene.things})
    others = [(c, s) for c in world.colours for s in world.shapes if (c, s) not in there]
    if generator.random() < 0.5:
        colour, shape = _pick(generator, there)
        return f"is there {with_article(f'{colour} {shape}')}?", "yes"
    if not others:
        return None
    # Half of the things that are not there share a colour or a shape with one that is.
    near = [o for o in others if any(o[0] == c or o[1] == s for c, s in there)]
    colour, shape = _pick(generator, near if near and generator.random() < 0.5 else others)
    return f"is there {with_article(f'{colour} {shape}')}?", "no"


def _relation(scene: Scene, generator: np.random.Generator, world: World) -> tuple[str, str] | None:
    found = _related(scene, generator)
    if found is None:
        return None
    thing, relation, other = found
    if generator.random() < 0.5:
        return f"is the {thing.shape} {relation} the {other.shape}?", "yes"
    return f"is the {thing.shape} {OPPOSITE[relation]} the {other.shape}?", "no"


def _count(scene: Scene, generator: np.random.Generator, world: World) -> tuple[str, str] | None:
    counts = Counter(t.shape for t in scene.things)
    absent = [s for s in world.shapes if s not in counts]
    # None at all is one answer of five, as are one to four.
    shape = _pick(generator, absent if absent and generator.random() < 0.2 else sorted(counts))
    return f"how many {plural(shape)} are there?", str(counts[shape])


def _colour(scene: Scene, generator: np.random.Generator, world: World) -> tuple[str, str] | None:
    alone = _alone(scene)
    if not alone:
        return None
    thing = _pick(generator, alone)
    return f"what colour is the {thing.shape}?", thing.colour


def _shape(scene: Scene, generator: np.random.Generator, world: World) -> tuple[str, str] | None:
    counts = Counter(t.colour for t in scene.things)
    alone = [t for t in scene.things if counts[t.colour] == 1]
    if not alone:
        return None
    thing = _pick(generator, alone)
    return f"what shape is {thing.colour}?", thing.shape


def _position(scene: Scene, generator: np.random.Generator, world: World) -> tuple[str, str] | None:
    found = _related(scene, generator)
    if found is None:
        return None
    thing, relation, other = found
    return f"where is the {thing.shape} from the {other.shape}?", _SIDES[relation]


def _related(scene: Scene, generator: np.random.Generator) -> tuple[Thing, str, Thing] | None:
    alone = _alone(scene)
    found = [
        (thing, relation, other)
        for thing in alone
        for other in alone
        if thing is not other and (relation := only_relation(thing.box, other.box)) is not None
    ]
    return _pick(generator, found) if found else None


def _alone(scene: Scene) -> list[Thing]:
    """The things that their shape alone names."""
    counts = Counter(t.shape for t in scene.things)
    return [t for t in scene.things if counts[t.shape] == 1]


def _one(generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    shape = _pick(generator, world.shapes)
    return place([(_pick(generator, world.colours), shape)], generator, world), f"a photo of {with_article(shape)}"


def _two(generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    shapes = _different(generator, world.shapes, "shapes")
    scene = place([(_pick(generator, world.colours), shape) for shape in shapes], generator, world)
    return scene, "a photo of " + " and ".join(map(with_article, shapes))


def _many(generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    if world.most < 2:
        raise ConfigError(f"{world.most}", where="most", expected="at least 2 for counting")
    shape, count = _pick(generator, world.shapes), int(generator.integers(2, world.most + 1))
    scene = place([(_pick(generator, world.colours), shape) for _ in range(count)], generator, world)
    return scene, f"a photo of {NUMBERS[count]} {plural(shape)}"


def _coloured(generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    look = (_pick(generator, world.colours), _pick(generator, world.shapes))
    return place([look], generator, world), f"a photo of {with_article(' '.join(look))}"


def _placed(generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    shapes = _different(generator, world.shapes, "shapes")
    relation = _pick(generator, tuple(OPPOSITE))
    while True:
        scene = place([(_pick(generator, world.colours), shape) for shape in shapes], generator, world)
        if only_relation(scene.things[0].box, scene.things[1].box) == relation:
            return scene, f"a photo of {with_article(shapes[0])} {relation} {with_article(shapes[1])}"


def _bound(generator: np.random.Generator, world: World) -> tuple[Scene, str]:
    colours = _different(generator, world.colours, "colours")
    looks = list(zip(colours, _different(generator, world.shapes, "shapes"), strict=True))
    text = "a photo of " + " and ".join(with_article(" ".join(look)) for look in looks)
    return place(looks, generator, world), text


def _different(generator: np.random.Generator, names: Sequence[str], where: str) -> list[str]:
    if len(names) < 2:
        raise ConfigError(f"{list(names)}", where=where, expected="at least two for this skill")
    return [names[int(i)] for i in generator.choice(len(names), size=2, replace=False)]


def _pick(generator: np.random.Generator, choices: Sequence[T]) -> T:
    return choices[int(generator.integers(len(choices)))]


_ASKERS: Mapping[str, tuple[str, Callable[[Scene, np.random.Generator, World], tuple[str, str] | None]]] = {
    "presence": ("yes/no", _presence),
    "relation": ("yes/no", _relation),
    "count": ("number", _count),
    "colour": ("other", _colour),
    "shape": ("other", _shape),
    "position": ("other", _position),
}
_PORTRAYERS: Mapping[str, Callable[[np.random.Generator, World], tuple[Scene, str]]] = {
    "single_object": _one,
    "two_object": _two,
    "counting": _many,
    "colors": _coloured,
    "position": _placed,
    "color_attr": _bound,
}
TOPICS = tuple(_ASKERS)
SKILLS = tuple(_PORTRAYERS)  # the tags of GenEval's metadata
