"""Aggregation with everything in memory: bisection for the cap, exact rationals for the mean, loops for Ḡ."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor


def capped_weights(weights: Mapping[str, float], max_share: float) -> dict[str, float]:
    """The largest ceiling t with t ≤ c · Σ min(w, t), by bisection; without one, all weights equal.

    g(t) = c · Σ min(w, t) − t is concave and starts at slope cK − 1, so it is ≥ 0 exactly up to its root.
    """
    if len(weights) * max_share <= 1:
        return dict.fromkeys(weights, min(weights.values(), default=1.0))
    low, high = 0.0, max(weights.values())
    if high <= max_share * sum(weights.values()):
        return dict(weights)
    for _ in range(200):
        middle = (low + high) / 2
        fits = middle <= max_share * sum(min(weight, middle) for weight in weights.values())
        low, high = (middle, high) if fits else (low, middle)
    return {site: min(weight, low) for site, weight in weights.items()}


def weighted_mean(
    updates: Mapping[str, Mapping[str, Tensor]], weights: Mapping[str, float]
) -> dict[str, list[Fraction]]:
    """Σ p X / Σ p in rational arithmetic, each tensor flattened."""
    total = sum(Fraction(weights[site]) for site in updates)
    means = {}
    for name, tensor in next(iter(updates.values())).items():
        sums = [Fraction(0)] * tensor.numel()
        for site, update in updates.items():
            for i, value in enumerate(update[name].double().flatten().tolist()):
                sums[i] += Fraction(weights[site]) * Fraction(value)
        means[name] = [value / total for value in sums]
    return means


def consensus(sites: Mapping[str, tuple[Tensor, tuple[int, ...]]], slots: int) -> Tensor:
    result = torch.full((slots, slots), float("nan"), dtype=torch.float64)
    for i in range(slots):
        for j in range(slots):
            values = [
                float(gram[own.index(i), own.index(j)]) for gram, own in sites.values() if i in own and j in own
            ]
            if len(values) >= 2:
                result[i, j] = statistics.fmean(values)
    return result
