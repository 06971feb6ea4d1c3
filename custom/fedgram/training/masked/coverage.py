"""The pairs of anchors of a masked sum: one that fewer than three sites cover would give away a site's cosine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from fedgram.core.shares import LEAST

Slots = Mapping[str, tuple[int, ...]]  # by site


def pair_counts(slots: Slots, sites: Iterable[str], total: int) -> Tensor:
    """The number of sites, of some, that cover each pair of anchors, (B, B) int64."""
    covers = torch.zeros(total, dtype=torch.int64)
    count = torch.zeros(total, total, dtype=torch.int64)
    for site in sites:
        covers.zero_()
        covers[list(slots[site])] = 1
        count += covers[:, None] * covers[None, :]
    return count


def summed_pairs(slots: Slots, sharers: Iterable[str], total: int) -> Tensor:
    """The pairs that are in the sum, those that three or more sites cover, (B, B) bool."""
    return pair_counts(slots, sharers, total) >= LEAST


def is_hidden(slots: Slots, sharers: Iterable[str], survivors: Iterable[str], total: int) -> bool:
    """Whether every pair that is in the sum has three sites or none among those whose values came."""
    left = pair_counts(slots, survivors, total)
    return not ((left > 0) & (left < LEAST) & summed_pairs(slots, sharers, total)).any()
