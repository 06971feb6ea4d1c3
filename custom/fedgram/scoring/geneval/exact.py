"""The detector for rendered scenes: colours and shapes are known, so pixels say what is there.

A pixel is a mixture of the ground and one colour. Pixels that are mostly of a colour make regions; of each shape
there is one box with the region's area and centre, and the shape that covers the region best is the one.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from fedgram.data.boxes import Box
from fedgram.demo.shapes import COLOURS, GROUND, SHAPES, paint
from fedgram.errors import ConfigError
from fedgram.scoring.geneval.rules import Detection

_LEAST_AREA = 0.012  # of the picture: less is a blotch; the smallest star has twice that
_FINER = 4  # templates are drawn so many times larger and averaged
_BLURS = (0.0, 0.7, 1.1)  # in pixels: a blurred picture is compared with blurred shapes
_NAMES = tuple(COLOURS)


class ExactDetector:
    """A reader of the scenes of :mod:`fedgram.demo.shapes`; boxes are shares of the picture.

    A detection's score is the overlap (intersection over union, weighted by coverage) of the region and the shape
    that was fitted to it.
    """

    threshold = 0.7  # clean scenes reach 0.87 and more, white noise 0.5 as a rule
    counting_threshold = 0.7

    def find(self, image: Image.Image, labels: Sequence[str]) -> list[Detection]:
        """Find the things of these shapes.

        Raises:
            ConfigError: a label that is no shape.
        """
        unknown = sorted(set(labels) - set(SHAPES))
        if unknown:
            raise ConfigError(f"{unknown[0]!r}", where="label", expected=" or ".join(SHAPES))
        return [detection for detection, _ in look(image) if detection.label in labels]

    def colour(self, image: Image.Image, detection: Detection) -> str:
        """The palette's colour of what was found.

        Raises:
            ConfigError: nothing was found there in this picture.
        """
        for found, colour in look(image):
            if found == detection:
                return colour
        raise ConfigError("not found in this picture", where="detection", expected="one that find() returned")


def look(image: Image.Image) -> list[tuple[Detection, str]]:
    """Find every thing in the picture, with its colour."""
    pixels = np.asarray(image.convert("RGB"), dtype=np.float64)
    shares, colours = _unmix(pixels)
    found = []
    for index, name in enumerate(_NAMES):
        labelled: Any = ndimage.label((colours == index) & (shares >= 0.5))
        regions, count = labelled
        for number in range(1, count + 1):
            region = regions == number
            if region.sum() < _LEAST_AREA * region.size:
                continue
            # Its soft edge belongs to it, as far as no other thing is there.
            edge = ndimage.binary_dilation(region, np.ones((3, 3))) & ((shares < 0.5) | region)
            found.append((_fit(np.where(edge, shares, 0.0)), name))
    return found


def _unmix(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unmix each pixel into ground and the nearest colour: the colour's share, from 0 to 1, and its index."""
    rays = np.array(list(COLOURS.values()), dtype=np.float64) - GROUND
    beyond = pixels - GROUND
    along = np.clip(beyond @ rays.T / (rays**2).sum(1), 0.0, 1.0)
    away = ((beyond[:, :, None] - along[..., None] * rays) ** 2).sum(3)
    shares = np.take_along_axis(along, away.argmin(2)[..., None], 2)[..., 0]
    # Neighbours vote on the colour, so that single wrong pixels do not cut a thing apart.
    votes = np.stack([ndimage.uniform_filter((away.argmin(2) == c) * shares, 3) for c in range(len(rays))], 2)
    return shares, votes.argmax(2)


def _fit(coverage: np.ndarray) -> Detection:
    """Fit the shape and box that cover the region best."""
    height, width = coverage.shape
    area = coverage.sum()
    middle = np.array([coverage.sum(0) @ np.arange(0.5, width), coverage.sum(1) @ np.arange(0.5, height)]) / area
    best = Detection(SHAPES[0], (0.0, 0.0, 0.0, 0.0), -1.0)
    for shape in SHAPES:
        filled, centre = _solid(shape)
        side = float(np.sqrt(area / filled))
        left, top = (float(v) for v in middle - side * centre)
        template = _paint(shape, (left, top, left + side, top + side), width, height)
        overlap = max(_overlap(coverage, ndimage.gaussian_filter(template, blur)) for blur in _BLURS)
        if overlap > best.score:
            box = (left / width, top / height, (left + side) / width, (top + side) / height)
            best = Detection(shape, box, overlap)
    return best


def _overlap(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.minimum(one, other).sum() / np.maximum(one, other).sum())


@cache
def _solid(shape: str) -> tuple[float, np.ndarray]:
    """The share of its box that a shape fills, and its centre of mass there."""
    template = _paint(shape, (0.0, 0.0, 64.0, 64.0), 64, 64)
    rows, columns = template.sum(1) @ np.arange(0.5, 64), template.sum(0) @ np.arange(0.5, 64)
    return float(template.mean()), np.array([columns, rows]) / template.sum() / 64


def _paint(shape: str, box: Box, width: int, height: int) -> np.ndarray:
    canvas = Image.new("L", (width * _FINER, height * _FINER))
    left, top, right, bottom = (side * _FINER for side in box)
    paint(ImageDraw.Draw(canvas), shape, (left, top, right, bottom), 255)
    return np.asarray(canvas.reduce(_FINER), dtype=np.float64) / 255
