"""The colours and shapes of rendered scenes, of which the embedded demo of FedUMM has pictures.

The scenes are drawn by :mod:`research.scenes`, and read by :mod:`fedgram.scoring.geneval.exact`.
"""

from __future__ import annotations

from math import cos, pi, sin

from PIL import ImageDraw

from fedgram.data.boxes import Box

Colour = tuple[int, int, int]
Point = tuple[float, float]

# Those of GenEval's colours that a screen can tell apart at a few pixels.
COLOURS: dict[str, Colour] = {
    "red": (220, 30, 35),
    "green": (30, 160, 60),
    "blue": (45, 95, 245),
    "yellow": (250, 225, 40),
    "purple": (150, 50, 205),
    "orange": (250, 130, 10),
    "pink": (250, 150, 195),
    "white": (240, 240, 240),
}
GROUND: Colour = (35, 35, 40)


def _star(points: int, waist: float) -> list[Point]:
    turns = [(i * pi / points, 1.0 if i % 2 == 0 else waist) for i in range(2 * points)]
    corners = [(reach * sin(turn), -reach * cos(turn)) for turn, reach in turns]
    lefts, tops = [x for x, _ in corners], [y for _, y in corners]
    return [  # stretched to fill its box, as all shapes do
        ((x - min(lefts)) / (max(lefts) - min(lefts)), (y - min(tops)) / (max(tops) - min(tops)))
        for x, y in corners
    ]


# Corners within the unit square; a circle has none.
_CORNERS: dict[str, list[Point]] = {
    "square": [(0, 0), (1, 0), (1, 1), (0, 1)],
    "circle": [],
    "triangle": [(0.5, 0), (1, 1), (0, 1)],
    "star": _star(5, 0.42),
    "diamond": [(0.5, 0), (1, 0.5), (0.5, 1), (0, 0.5)],
    "cross": [(a, b) for a, b in [(0.34, 0), (0.66, 0), (0.66, 0.34), (1, 0.34), (1, 0.66), (0.66, 0.66)]]
    + [(0.66, 1), (0.34, 1), (0.34, 0.66), (0, 0.66), (0, 0.34), (0.34, 0.34)],
}
SHAPES = tuple(_CORNERS)


def paint(brush: ImageDraw.ImageDraw, shape: str, box: Box, colour: Colour | int) -> None:
    """Fill one shape into ``box``, given in the brush's own pixels."""
    left, top, right, bottom = box
    if corners := _CORNERS[shape]:
        brush.polygon([(left + x * (right - left), top + y * (bottom - top)) for x, y in corners], fill=colour)
    else:
        brush.ellipse(box, fill=colour)
