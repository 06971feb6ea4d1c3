"""The bootstrap over groups of test samples: how far a figure would vary if other patients had been tested."""

from __future__ import annotations

import torch
from torch import Tensor

from fedgram.errors import FedgramError

DRAWS = 1000


def resampled(parts: Tensor, seed: int = 0) -> Tensor:
    """Sums over as many groups as there are, drawn with replacement, (R, …), float64 (Efron 1979).

    The same seed draws the same groups, so that two figures of the same samples vary together.

    Args:
        parts: (G, …), what each group adds to the sum.

    Raises:
        FedgramError: there is no group.
    """
    groups = len(parts)
    if not groups:
        raise FedgramError("no group to draw from", expected="(G, …), G ≥ 1")
    drawn = torch.randint(groups, (DRAWS, groups), generator=torch.Generator().manual_seed(seed))
    times = torch.zeros(DRAWS, groups, dtype=torch.float64)
    times.scatter_add_(1, drawn, torch.ones_like(drawn, dtype=torch.float64))
    return torch.tensordot(times, parts.double(), dims=1)


def interval(values: Tensor) -> tuple[float, float] | None:
    """The 2.5th and 97.5th percentile of (R,) values, of those that are numbers; None without any."""
    known = values[~values.isnan()]
    if not len(known):
        return None
    low, high = known.quantile(torch.tensor([0.025, 0.975], dtype=known.dtype)).tolist()
    return low, high


def by_group(values: Tensor, groups: list[str]) -> Tensor:
    """Sum values (N, …) within each group, (G, …), in the order in which groups appear."""
    numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
    rows = torch.tensor([numbers[group] for group in groups], dtype=torch.long)
    return torch.zeros(len(numbers), *values.shape[1:], dtype=torch.float64).index_add_(0, rows, values.double())
