"""The place of one box seen from another, by the rule of GenEval (Ghosh et al. 2023, evaluate_images.py)."""

from __future__ import annotations

from math import hypot

Box = tuple[float, float, float, float]  # left, top, right, bottom; downwards is positive

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_MARGIN = 0.1  # of the two extents together: offsets up to this do not count
_LEAST = 0.5  # share of the distance that must lie along an axis
_NOTHING = 1e-3


def relations(box: Box, other: Box) -> frozenset[str]:
    """The relations of ``left of``, ``right of``, ``above``, ``below`` that hold for ``box`` seen from ``other``.

    Offsets of the centres are shortened by a tenth of the two extents, and what is left must be more than half
    of the distance between the centres. So two can hold at once, or none.

    Law: a relation holds exactly when its opposite holds with the boxes exchanged.
    """
    offset = [(box[i] + box[i + 2] - other[i] - other[i + 2]) / 2 for i in (0, 1)]
    extent = [abs(box[i + 2] - box[i]) + abs(other[i + 2] - other[i]) for i in (0, 1)]
    beyond = [max(abs(d) - _MARGIN * e, 0.0) for d, e in zip(offset, extent, strict=True)]
    if max(beyond) < _NOTHING:
        return frozenset()
    names = (("left of", "right of"), ("above", "below"))
    return frozenset(names[axis][offset[axis] > 0] for axis in (0, 1) if beyond[axis] / hypot(*offset) > _LEAST)


def only_relation(box: Box, other: Box) -> str | None:
    """The relation that holds where exactly one does: nobody would dispute it."""
    found = relations(box, other)
    return next(iter(found)) if len(found) == 1 else None
