"""Anchor coordinates and mutual nearest neighbours with loops and sorting."""

from __future__ import annotations

from reference.gram import cosine
from torch import Tensor


def anchor_coordinates(z: Tensor, anchors: Tensor) -> list[list[float]]:
    rows = []
    for sample in z.double().tolist():
        cosines = [cosine(sample, anchor) for anchor in anchors.double().tolist()]
        mean = sum(cosines) / len(cosines)
        rows.append([value - mean for value in cosines])
    return rows


def neighbours(similarity: Tensor, item: int, k: int) -> set[int]:
    others = [j for j in range(len(similarity)) if j != item]
    return set(sorted(others, key=lambda j: float(similarity[item, j]), reverse=True)[:k])


def mutual_knn(x: Tensor, y: Tensor, k: int) -> float:
    shared = [len(neighbours(x, i, k) & neighbours(y, i, k)) / k for i in range(len(x))]
    return sum(shared) / len(shared)
