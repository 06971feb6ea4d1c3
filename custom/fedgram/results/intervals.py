"""Figures on test samples with their 95 % intervals, which are bootstraps over groups of samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedgram.core.bootstrap import by_group, interval, resampled

Interval = tuple[float, float] | None


@dataclass(frozen=True)
class WithInterval:
    """A figure on test samples, and its 95 % interval over their groups; None with fewer than two groups."""

    value: float
    interval: Interval


def figure(parts: Tensor, measure: Callable[[Tensor], Tensor]) -> WithInterval:
    """Measure a sum of parts (G, …), and how far that varies with the groups that are drawn."""
    value = measure(parts.sum(0)).item()
    return WithInterval(value, interval(measure(resampled(parts))) if len(parts) > 1 else None)


def ratio(sums: Tensor) -> Tensor:
    """The first of two sums, divided by the second, (…), of (…, 2)."""
    return sums[..., 0] / sums[..., 1]


def share(right: Sequence[bool], groups: Sequence[str]) -> WithInterval:
    """The share of answers that are right, with its interval over groups."""
    pairs = torch.tensor([[float(r), 1.0] for r in right], dtype=torch.float64)
    return figure(by_group(pairs, list(groups)), ratio)
