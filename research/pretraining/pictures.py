"""Scenes to pre-train on, with the colour and shape at each place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from fedgram.demo.shapes import COLOURS, SHAPES, paint
from PIL import Image, ImageDraw
from torch import Tensor

from research.scenes.scenes import Scene, World, draw, random_scene

PUBLIC = World(colours=("red", "green", "blue", "yellow"), shapes=("square", "circle", "triangle"), most=2)


@dataclass(frozen=True)
class Pictures:
    """N scenes as pictures.

    Attributes:
        scenes: what they show.
        images: the pictures.
        pixels: (N, 3, S, S), float32 within −1 … 1.
    """

    scenes: Sequence[Scene]
    images: Sequence[Image.Image]
    pixels: Tensor


def make_pictures(scenes: Sequence[Scene], size: int) -> Pictures:
    """The pictures of scenes at ``size`` × ``size``."""
    images = [draw(scene, size) for scene in scenes]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images]))
    return Pictures(scenes, images, pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)


def random_pictures(count: int, size: int, world: World, seed: int) -> Pictures:
    """The pictures of random scenes of a world."""
    generator = np.random.default_rng(seed)
    return make_pictures([random_scene(generator, world) for _ in range(count)], size)


def looks_by_patch(scenes: Sequence[Scene], size: int, patch: int) -> tuple[Tensor, Tensor]:
    """The colour and the shape that each patch shows, 0 for the ground: two of (N, (S / patch)²), int64."""
    colours, shapes = (np.stack(part) for part in zip(*(_planes(scene, size) for scene in scenes), strict=True))
    side = size // patch

    def largest(plane: np.ndarray) -> Tensor:
        blocks = plane.reshape(len(scenes), side, patch, side, patch)
        return torch.from_numpy(blocks.max((2, 4)).reshape(len(scenes), -1)).long()

    return largest(colours), largest(shapes)


def _planes(scene: Scene, size: int) -> tuple[np.ndarray, np.ndarray]:
    planes = Image.new("L", (size, size)), Image.new("L", (size, size))
    for thing in scene.things:
        left, top, right, bottom = (side * size for side in thing.box)
        box = (left, top, right, bottom)
        paint(ImageDraw.Draw(planes[0]), thing.shape, box, list(COLOURS).index(thing.colour) + 1)
        paint(ImageDraw.Draw(planes[1]), thing.shape, box, SHAPES.index(thing.shape) + 1)
    return np.asarray(planes[0]), np.asarray(planes[1])
