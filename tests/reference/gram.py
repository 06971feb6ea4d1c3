"""Equation (1) entry by entry."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def cosine(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    norms = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b))
    return dot / norms if norms else 0.0


def cosine_gram(z: Tensor) -> Tensor:
    rows = z.double().tolist()
    return torch.tensor([[cosine(a, b) for b in rows] for a in rows], dtype=torch.float64)
