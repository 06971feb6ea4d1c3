"""The studies: experiments that answer one question, and fill one table of results in `research/results`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import get_args

from research.evidence.experiment import Experiment
from research.evidence.federations import EVEN
from research.evidence.federations.synthetic import Broken
from research.evidence.methods import ABLATIONS, BASELINES, CENTRAL, OURS, RATE

SEEDS = range(5)
REAL = ("carnivora", "pathogens", "digits")
MADE = "synthetic"
# Where the weights of eq. 6 should fall.
WEIGHED = ("noisy site", "mislabelled site", "synthetic anchors", "collapsed site")
# The ablations that decide a claim of the paper or the default; on the made federation all are run.
DECISIVE = (
    "local: concept loss",
    "geodora: as printed",
    "geodora: λ=0",
    "geodora: no concept loss",
    "geodora: no concept loss, λ=0",
    "geodora: B not shared",
    "geodora: B frozen",
    "geodora: mean m",
    "geodora: uniform weights",
)
# Where the lead in retrieval comes from: the losses, or that anything is shared.
CREDIT = ("local: concept loss", "geodora: B not shared", "geodora: no concept loss", "geodora: λ=0")
# What might become the default of jobs/geodora, and whom it must beat at their own best learning rate.
CANDIDATES = tuple(
    f"{method}{change}"
    for method in ("local", "fedit", "geolora", "geodora")
    for change in ("", *(f": {RATE}{times}" for times in (2, 5, 15)))
)
# The same question where it is close: the smallest change, on the other real federations too.
CLOSE = ("local", *(f"{method}{change}" for method in OURS for change in ("", f": {RATE}2")))


def grid(
    federations: Sequence[str], methods: Sequence[str], seeds: Sequence[int] = SEEDS, **fixed: object
) -> list[Experiment]:
    """The experiments of every method on every federation with every seed."""
    return by_seed(
        [
            Experiment(federation, method, seed, **fixed)  # pyright: ignore[reportArgumentType]
            for federation, method, seed in product(federations, methods, seeds)
        ]
    )


def by_seed(experiments: Sequence[Experiment]) -> list[Experiment]:
    """The experiments sorted by seed: a study that is stopped is thin, not lopsided."""
    return sorted(experiments, key=lambda experiment: experiment.seed)


def partitions() -> list[Experiment]:
    """The experiments with more sites, and with sites that see some concepts more than others."""
    found = []  # four sites have one modality each, and nothing to deal
    for sites, alpha in product((8, 16), (EVEN, 0.5, 0.1)):
        found += grid((MADE,), ("local", "per_modality", "fedit", "geodora"), sites=sites, alpha=alpha)
    return found


def controls() -> list[Experiment]:
    """The experiments with broken federations: those that must not work, and those that must."""
    uniform, printed = "geodora: uniform weights", "geodora: LAP as printed"
    found = []
    for broken in [b for b in get_args(Broken) if b != "nothing"]:  # that is in the other studies
        weighed = (uniform, printed) if broken in WEIGHED else (uniform,)
        found += grid((MADE,), ("local", "geodora: λ=0", "geodora", *weighed), broken=broken)
    for broken in ("shuffled anchors", "noisy site", "mislabelled site"):
        found += grid(("carnivora",), ("local", "geodora", uniform), broken=broken)
    # Who repairs a noisy site: the losses, or the others.
    found += grid(("carnivora",), ("local: concept loss", "geodora: B not shared"), broken="noisy site")
    return found


def anchors() -> list[Experiment]:
    """The experiments with few anchors: how many are enough."""
    found = []
    for count in (6, 12, 18, 24):
        found += grid((MADE,), ("local", "geodora: λ=0", "geodora"), broken=f"{count} anchors left")
    return found


def bridges() -> list[Experiment]:
    """The experiments with pairs at one site, and with fewer anchors."""
    found = []
    for left, pairs in product((6, 12, 24), (0, 20, 60, 180)):
        found += grid((MADE,), ("geodora",), broken=f"{left} anchors left", pairs=pairs)
    return found


STUDIES = {
    "quick": lambda: grid((MADE,), ("local", "fedit", "geodora: λ=0", "geodora", CENTRAL), range(3)),
    "tuning": lambda: [
        *grid((MADE, "carnivora"), CANDIDATES, split="validation"),
        *grid(("pathogens", "digits"), CLOSE, range(3), split="validation"),
    ],
    "methods": lambda: grid((MADE, *REAL), (*BASELINES, *OURS, CENTRAL)),
    "ablations": lambda: [
        *grid((MADE,), tuple(ABLATIONS)),
        *grid(("carnivora",), DECISIVE),
        *grid(("pathogens", "digits"), CREDIT),
    ],
    "controls": lambda: by_seed(controls()),
    "anchors": lambda: by_seed(anchors()),
    "bridges": lambda: by_seed(bridges()),
    "partitions": lambda: by_seed(partitions()),
}
