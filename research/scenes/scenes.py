"""Pictures of coloured shapes with exact truth beside them, from which a small unified model learns offline.

A scene is a few shapes on a dark ground, on the squares of a board of 8 × 8, so that there are few patches and a
small tokeniser has a code for each. Coordinates are shares of the picture's side, so that one scene can be drawn
at any size. What can be said of a scene is in :mod:`research.scenes.words`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from fedgram.data.boxes import Box
from fedgram.demo.shapes import COLOURS, GROUND, SHAPES, paint
from fedgram.errors import ConfigError
from PIL import Image, ImageDraw

_FINER = 8  # shapes are drawn so many times larger and averaged, which smooths their edges
_BOARD, _SIDE = 8, 3  # squares of the board along a side, and of a thing
_APART = _SIDE + 1  # squares between two things' corners along one of the axes, at least: one is free between them
_TRIES = 40  # places for one thing before the scene is begun again


@dataclass(frozen=True)
class Thing:
    """One shape: centre ``x``, ``y`` and side of its box, as shares of the picture's side."""

    colour: str
    shape: str
    x: float
    y: float
    size: float

    @property
    def box(self) -> Box:
        half = self.size / 2
        return (self.x - half, self.y - half, self.x + half, self.y + half)


@dataclass(frozen=True)
class Scene:
    """A scene of things that do not overlap."""

    things: tuple[Thing, ...]


@dataclass(frozen=True)
class World:
    """The things that may occur in scenes. The public part of a study and its sites can have worlds that differ.

    Attributes:
        colours, shapes: names from :data:`COLOURS` and :data:`SHAPES`.
        most: things in a scene, at most.

    Raises:
        ConfigError: an unknown or missing colour or shape, or things that a picture cannot hold.
    """

    colours: tuple[str, ...] = field(default=tuple(COLOURS))
    shapes: tuple[str, ...] = field(default=SHAPES)
    most: int = 4

    def __post_init__(self) -> None:
        for where, got, known in (("colours", self.colours, tuple(COLOURS)), ("shapes", self.shapes, SHAPES)):
            if not got or not set(got) <= set(known) or len(set(got)) < len(got):
                raise ConfigError(f"{list(got)}", where=where, expected=f"some of {', '.join(known)}, each once")
        if not 1 <= self.most <= 4:
            raise ConfigError(f"{self.most}", where="most", expected="1 to 4 things in a scene")


def random_scene(generator: np.random.Generator, world: World, count: int | None = None) -> Scene:
    """Draw a scene of ``count`` things, or 1 to ``world.most``, of any colour and shape, at random places.

    A third of the scenes are of one shape, so that there is something to count.
    """
    count = int(generator.integers(1, world.most + 1)) if count is None else count
    shapes = (_any(generator, world.shapes),) if generator.random() < 1 / 3 else world.shapes
    looks = [(_any(generator, world.colours), _any(generator, shapes)) for _ in range(count)]
    return place(looks, generator, world)


def place(looks: Sequence[tuple[str, str]], generator: np.random.Generator, world: World) -> Scene:
    """Place things of these colours and shapes at random squares of the board.

    Raises:
        ConfigError: more than four of them.
    """
    if len(looks) > 4:
        raise ConfigError(f"{len(looks)}", where="things in a scene", expected="at most 4")
    while True:
        corners: list[tuple[int, int]] = []
        while len(corners) < len(looks) and (corner := _free(corners, generator)) is not None:
            corners.append(corner)
        if len(corners) == len(looks):
            middles = [((x + _SIDE / 2) / _BOARD, (y + _SIDE / 2) / _BOARD) for x, y in corners]
            return Scene(tuple(Thing(*look, *m, _SIDE / _BOARD) for look, m in zip(looks, middles, strict=True)))


def draw(scene: Scene, pixels: int) -> Image.Image:
    """Draw the scene as an RGB picture of ``pixels`` × ``pixels``; the same every time."""
    canvas = Image.new("RGB", (pixels * _FINER, pixels * _FINER), GROUND)
    brush = ImageDraw.Draw(canvas)
    for thing in scene.things:
        left, top, right, bottom = (side * pixels * _FINER for side in thing.box)
        paint(brush, thing.shape, (left, top, right, bottom), COLOURS[thing.colour])
    return canvas.reduce(_FINER)


def _free(corners: Sequence[tuple[int, int]], generator: np.random.Generator) -> tuple[int, int] | None:
    """The upper left square of one more thing beside these, or None where none is soon found."""
    for _ in range(_TRIES):
        x, y = (int(v) for v in generator.integers(_BOARD - _SIDE + 1, size=2))
        if all(max(abs(x - left), abs(y - top)) >= _APART for left, top in corners):
            return x, y
    return None


def _any(generator: np.random.Generator, names: Sequence[str]) -> str:
    return names[int(generator.integers(len(names)))]
