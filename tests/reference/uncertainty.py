"""Equation (6) sample by sample."""

from __future__ import annotations

from reference.gram import cosine
from torch import Tensor


def anchor_proximity(z: Tensor, anchors: Tensor, variant: str) -> list[float]:
    samples, references = z.double().tolist(), anchors.double().tolist()
    if variant == "centered":
        mean = [sum(column) / len(references) for column in zip(*references, strict=True)]
        samples, references = (
            [[value - m for value, m in zip(row, mean, strict=True)] for row in rows]
            for rows in (samples, references)
        )
    return [0.5 * (1 - max(cosine(row, anchor) for anchor in references)) for row in samples]


def precision(u: list[float], u_min: float) -> float:
    inverse = [1 / min(max(value, u_min), 1.0) for value in u]
    return sum(inverse) / len(inverse)
