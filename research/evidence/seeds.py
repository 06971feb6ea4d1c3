"""Means over seeds, their intervals, and paired tests between methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from research.rows import Rows


@dataclass(frozen=True)
class Paired:
    """A comparison of two methods on the same seeds.

    Attributes:
        differences: by seed.
        p: of a paired t-test.
    """

    differences: tuple[float, ...]
    p: float

    @property
    def mean(self) -> float:
        return float(np.mean(self.differences))


def values(rows: Rows, measure: str) -> list[float]:
    """The values of one measure, in the rows that have it."""
    return [row[measure] for row in rows if measure in row]


def groups(rows: Rows, *keys: str) -> dict[tuple[Any, ...], Rows]:
    """The rows by the values of some columns, in the order of their first rows."""
    found: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        found.setdefault(tuple(row[key] for key in keys), []).append(row)
    return found


def pooled(rows: Rows) -> Rows:
    """The rows of methods that were run on every federation; a seed of one federation is a seed of its own."""
    federations = groups(rows, "federation").keys()
    return [
        {**row, "seed": (row["federation"], row["seed"])}
        for own in groups(rows, "method").values()
        if groups(own, "federation").keys() == federations
        for row in own
    ]


def interval(found: Sequence[float]) -> tuple[float, float]:
    """The mean over seeds and half the width of its 95 % interval (Student's t); NaN for a single seed."""
    n = len(found)
    half = float(stats.t.ppf(0.975, n - 1)) * float(np.std(found, ddof=1)) / n**0.5 if n > 1 else float("nan")
    return float(np.mean(found)), half


def differences(rows: Rows, method: str, baseline: str, measure: str) -> list[float]:
    """The differences of a measure between a method and a baseline, for each of the seeds that both have."""
    by_seed = [
        {row["seed"]: row[measure] for row in rows if row["method"] == name and measure in row}
        for name in (method, baseline)
    ]
    return [by_seed[0][seed] - by_seed[1][seed] for seed in sorted(by_seed[0].keys() & by_seed[1].keys())]


def paired(rows: Rows, method: str, baseline: str, measure: str) -> Paired | None:
    """The paired test of a method against a baseline over the seeds that both have; None for fewer than two."""
    difference = np.array(differences(rows, method, baseline, measure))
    if len(difference) < 2:
        return None
    if np.allclose(difference, difference[0], rtol=0, atol=1e-9):  # a t-test of these would only see rounding
        p = 1.0 if abs(difference[0]) < 1e-9 else 0.0
    else:
        p = float(stats.ttest_1samp(difference, 0.0).pvalue)  # pyright: ignore[reportAttributeAccessIssue]
    return Paired(tuple(difference.tolist()), p)
