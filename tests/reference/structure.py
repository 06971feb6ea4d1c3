"""The structure loss with loops."""

from __future__ import annotations

from reference.gram import cosine
from torch import Tensor


def structure_loss(z: Tensor, classes: list[int], prototypes: Tensor) -> float:
    rows, present = z.double().tolist(), sorted(set(classes))
    own = {
        c: [
            sum(column) / classes.count(c)
            for column in zip(*(r for r, y in zip(rows, classes, strict=True) if y == c), strict=True)
        ]
        for c in present
    }
    far = prototypes.double().tolist()
    terms = [
        (cosine(row, own[c]) - cosine(far[y], far[c])) ** 2
        for row, y in zip(rows, classes, strict=True)
        for c in present
    ]
    return sum(terms) / len(terms)
