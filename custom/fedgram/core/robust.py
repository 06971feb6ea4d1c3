"""Robust rules of aggregation: what a minority of liars among K updates can do to their mean is bounded.

Every rule takes all updates as rows x, (K, n), float64, and their positive weights p, (K,). Rows may come in any
order; where ``liars`` is 0 every rule is the weighted mean. All of them hold every update in memory.

Laws: a permutation of the rows changes nothing beyond rounding; equal rows are their own aggregate; a shift or a
scaling of all rows shifts or scales the aggregate; of fewer than K/2 liars none can move it without bound.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Literal, get_args

import torch
from torch import Tensor

from fedgram.errors import FedgramError

Rule = Literal["mean", "trimmed_mean", "median", "centred_clipping"]
Combine = Callable[[Tensor, Tensor], Tensor]  # of rows (K, n) and weights (K,): one row (n,)


def lower_median(values: Iterable[float]) -> float:
    """The median, of an even number of values the smaller of the middle two: half of two sites cannot raise it.

    Raises:
        FedgramError: no values.
    """
    ordered = sorted(values)
    if not ordered:
        raise FedgramError("a median of no values")
    return ordered[(len(ordered) - 1) // 2]


def entry_median(x: Tensor) -> Tensor:
    """The median of each entry over the first dimension, of an even number the mean of the middle two.

    NaN is absence; an entry that is NaN everywhere stays it. The same for any order, bit for bit.
    """
    ordered, count = x.sort(dim=0).values, (~x.isnan()).sum(0, keepdim=True)  # NaN goes last
    low, high = (ordered.gather(0, rank.clamp(min=0))[0] for rank in ((count - 1) // 2, count // 2))
    return (low + high) / 2


def mean(x: Tensor, p: Tensor) -> Tensor:
    """The weighted mean Σ p_k x_k / Σ p_k, (n,)."""
    return p @ x / p.sum()


def trimmed_mean(x: Tensor, p: Tensor, liars: int) -> Tensor:
    """The weighted mean, in each coordinate, without its ``liars`` smallest and largest values (Yin et al. 2018).

    What is left out goes by rank: no weight that a site claims keeps it in.

    Raises:
        FedgramError: not 0 ≤ 2 · liars < K.
    """
    if not 0 <= 2 * liars < len(x):
        raise FedgramError(f"{liars} liars among {len(x)} updates", expected="0 or more, and less than half")
    by_weight = p.argsort(stable=True)  # so that a tie in value is broken by weight, whatever the order of rows
    values, ranks = x[by_weight].sort(dim=0, stable=True)
    kept = slice(liars, len(x) - liars)
    weights = p[by_weight][ranks[kept]]
    return (weights * values[kept]).sum(0) / weights.sum(0)


def coordinate_median(x: Tensor, p: Tensor) -> Tensor:
    """The median of each coordinate, (n,); of an even K the weighted mean of the middle two (Yin et al. 2018)."""
    return trimmed_mean(x, p, (len(x) - 1) // 2)


def centred_clipping(x: Tensor, p: Tensor, centre: Tensor, radius: float, steps: int = 1) -> Tensor:
    """The centre v ← v + Σ p_k (x_k − v) min(1, τ/‖x_k − v‖) / Σ p_k, a few times (Karimireddy et al. 2021).

    Args:
        centre: (n,), where v begins.
        radius: τ, as far as one update can pull.
    """
    for _ in range(steps):
        away = x - centre
        distance = away.norm(dim=1, keepdim=True)
        centre = centre + mean(away * (radius / distance.clamp(min=1e-300)).clamp(max=1.0), p)
    return centre


def nearest_neighbour_mixing(x: Tensor, p: Tensor, liars: int) -> Tensor:
    """Each update made the weighted mean of the K − ``liars`` nearest to it, itself among them: (K, n).

    Where data differ from site to site, it brings honest updates together before a rule (Allouah et al. 2023).

    Raises:
        FedgramError: not 0 ≤ liars < K.
    """
    if not 0 <= liars < len(x):
        raise FedgramError(f"{liars} liars among {len(x)} updates", expected="0 or more, and less than all")
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist").fill_diagonal_(-1.0)
    nearest = distance.sort(dim=1, stable=True).indices[:, : len(x) - liars]
    share = torch.zeros_like(distance).scatter_(1, nearest, p[nearest])
    # Updates with the same neighbours become one value, to the last bit: their order may not decide over a tie.
    share, place = share.unique(dim=0, return_inverse=True)
    return (share @ x / share.sum(1, keepdim=True))[place]


def combine(rule: Rule, tolerated: float, *, mixing: bool) -> Combine | None:
    """The rule of a job for any number of updates; None for the plain mean, which needs none of them in memory.

    Args:
        tolerated: the share of sites that may lie: ⌊tolerated · K⌋ of K.
        mixing: whether nearest-neighbour mixing comes first.

    Raises:
        FedgramError: a rule of another name, or a share that is not in [0, ½).
    """
    if rule not in get_args(Rule):
        raise FedgramError(f"rule {rule!r}", expected=" | ".join(get_args(Rule)))
    if not 0 <= tolerated < 0.5:
        raise FedgramError(f"tolerated = {tolerated}", expected="0 ≤ tolerated < ½")
    return None if rule == "mean" and not mixing else partial(_combined, rule, tolerated, mixing)


def _combined(rule: Rule, tolerated: float, mixing: bool, x: Tensor, p: Tensor) -> Tensor:
    liars = int(tolerated * len(x) + 1e-9)
    if not liars:
        return mean(x, p)
    if mixing:
        x = nearest_neighbour_mixing(x, p, liars)
    if rule == "trimmed_mean":
        return trimmed_mean(x, p, liars)
    if rule == "median":
        return coordinate_median(x, p)
    if rule == "centred_clipping":
        centre = coordinate_median(x, p)
        return centred_clipping(x, p, centre, lower_median((x - centre).norm(dim=1).tolist()))
    return mean(x, p)
