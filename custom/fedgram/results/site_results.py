"""The results of one site on its own test samples, as the report shows them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import stdtrit

from fedgram.core.mixture import paired
from fedgram.model.tasks.metrics import LOWER_IS_BETTER, gain, main_metric

FLOORS = {"frozen_lr": "frozen LR", "frozen_knn": "k-NN", "own_anchors": "own anchors"}


@dataclass(frozen=True, kw_only=True)
class SiteResults:
    """The values of the metric that a site is judged by; None where there is none.

    Attributes:
        metric: its name.
        home: of the site that trained alone.
        together: of the federation's model at the site.
        kept: of what the site keeps: home, together, a regression on frozen tokens, or a mixture.
        gain: of what is kept over home, of together where nothing was kept; positive is better.
        gain_se: the standard error of the gain over groups of test samples.
        floors: by the names of :data:`FLOORS`, as far as they are defined.
        samples, groups: how many test samples and groups there are.
    """

    metric: str | None
    home: float | None
    together: float | None
    kept: float | None
    gain: float | None
    gain_se: float | None
    floors: Mapping[str, float]
    samples: int | None
    groups: int | None

    @property
    def label(self) -> str:
        """The name of the metric, with an arrow where lower is better."""
        if self.metric is None:
            return "–"
        return f"{self.metric} ↓" if self.metric in LOWER_IS_BETTER else self.metric


def site_results(facts: Mapping[str, Any], site: str) -> SiteResults:
    """Read the results of a site from the facts of ``metrics.json``."""
    home, together, kept = (facts.get(part, {}).get(site, {}) for part in ("test_alone", "test", "test_kept"))
    metric = main_metric({*home, *together})
    before, global_, after = (part.get(metric) for part in (home, together, kept))
    better = _gain(metric, before, global_ if after is None else after)
    counts = (None if (n := home.get(name)) is None else int(n) for name in ("test_samples", "test_groups"))
    samples, groups = counts
    return SiteResults(
        metric=metric,
        home=before,
        together=global_,
        kept=after,
        gain=kept.get("gain", better),
        gain_se=kept.get("gain_se"),
        floors={name: home[name] for name in FLOORS if name in home},
        samples=samples,
        groups=groups,
    )


def mean_gains(sites: Sequence[SiteResults]) -> dict[str, tuple[float, float]]:
    """The mean of ``kept`` and of ``together`` over home, and half of its 95 % interval over sites (Student's t).

    Args:
        sites: two or more, judged by one metric; a mean that one of them has no part in is left out.
    """
    found = {}
    for name in ("kept", "together"):
        gains = [_gain(site.metric, site.home, getattr(site, name)) for site in sites]
        known = torch.tensor([g for g in gains if g is not None], dtype=torch.float64)
        if len(known) == len(gains) > 1:
            mean, error = paired(known)
            found[name] = (mean, error * float(stdtrit(len(gains) - 1, 0.975)))
    return found


def _gain(metric: str | None, before: float | None, after: float | None) -> float | None:
    return None if metric is None or before is None or after is None else gain(metric, before, after)
