"""Means over federations, their intervals, and Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from scipy import stats


def points(share: float) -> str:
    """A difference of shares in points, with a sign and one digit."""
    return f"{100 * share:+.1f}".replace("-", "−")


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A mean over k units and its 95 % interval by Student's t; without units nothing is known.

    Attributes:
        mean: over the units.
        half: of the interval's width; NaN of fewer than two units.
        p: that the mean is 0; NaN of fewer than two units.
        units: k.
    """

    mean: float
    half: float
    p: float
    units: int

    @property
    def above(self) -> bool:
        """Whether the interval lies above 0."""
        return self.mean - self.half > 0

    @property
    def below(self) -> bool:
        """Whether the interval lies below 0."""
        return self.mean + self.half < 0

    @property
    def open(self) -> bool:
        """Whether there is an interval, and 0 lies in it."""
        return self.units > 1 and not self.above and not self.below

    def __str__(self) -> str:
        """Points, with a sign: ``+1.2 ± 0.4``."""
        if not self.units:
            return "–"
        return points(self.mean) + (f" ± {100 * self.half:.1f}" if self.units > 1 else "")

    @property
    def level(self) -> str:
        """The mean alone in percent, without a sign: of a share, not of a difference."""
        return f"{100 * self.mean:.1f}" if self.units else "–"


def estimate(values: Sequence[float]) -> Estimate:
    """The mean of independent units with its 95 % interval, and the p of a t-test against 0."""
    k = len(values)
    if k < 2:
        return Estimate(mean=values[0] if values else nan, half=nan, p=nan, units=k)
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1)) / k**0.5
    if error < 1e-12:  # a t-test of equal values would only see rounding
        return Estimate(mean=mean, half=0.0, p=float(abs(mean) < 1e-9), units=k)
    p = 2 * float(stats.t.sf(abs(mean) / error, k - 1))
    return Estimate(mean=mean, half=float(stats.t.ppf(0.975, k - 1)) * error, p=p, units=k)


def holm(estimates: Sequence[Estimate], level: float = 0.05) -> list[bool]:
    """Which of several estimates differ from 0 by Holm's step-down test (1979); those without a p do not count.

    The i-th smallest of m values of p is held against ``level`` / (m − i), from i = 0, until one fails.
    """
    tested = sorted((i for i, e in enumerate(estimates) if e.units > 1), key=lambda i: estimates[i].p)
    found = [False] * len(estimates)
    for rank, i in enumerate(tested):
        if estimates[i].p > level / (len(tested) - rank):
            break
        found[i] = True
    return found
