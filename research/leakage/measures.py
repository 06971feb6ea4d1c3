"""Scores of an attack with chance beside them, and how far chance itself strays."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import mean, stdev

import torch
from torch import Tensor


@dataclass(frozen=True)
class Finding:
    """A score of an attack.

    Attributes:
        score: of the attack.
        chance: the score of one who guesses.
        error: the standard error of what guessing gives, over as many cases.
        cases: how many there are.
    """

    score: float
    chance: float
    error: float
    cases: int


def hits(right: int, cases: int, chance: float) -> Finding:
    """So many right answers of so many."""
    return Finding(right / cases, chance, (chance * (1 - chance) / cases) ** 0.5, cases)


def auc(scores: Tensor, members: Tensor) -> float:
    """The probability that a member scores higher than another, ties counting half: (N,), (N,) bool."""
    inside, outside = scores[members].double(), scores[~members].double().sort().values
    below = torch.searchsorted(outside, inside)
    upto = torch.searchsorted(outside, inside, right=True)
    return ((below + upto).double().mean() / (2 * len(outside))).item()


def found_at(scores: Tensor, members: Tensor, share: float) -> Tensor:
    """Which members score above all but this share of the others: (members,) bool."""
    return scores[members] > scores[~members].quantile(1 - share, interpolation="higher")


def averaged(values: list[float], chance: float) -> Finding:
    """A score of which there are several, each a case."""
    return Finding(mean(values), chance, stdev(values) / len(values) ** 0.5, len(values))


def compared(pairs: list[tuple[float, float]]) -> Finding:
    """The mean of an attack's scores, each with what guessing gave in the same case."""
    gain = averaged([ours - blind for ours, blind in pairs], 0.0)
    chance = mean(blind for _, blind in pairs)
    return Finding(gain.score + chance, chance, gain.error, gain.cases)
