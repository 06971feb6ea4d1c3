"""The runs of the study of FedUMM, each kind at the rate that was best on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from math import inf
from typing import Any

from fedgram.errors import ConfigError

from research.fedumm.trial import FULL, GENERATION_WEIGHT, Trial

SEEDS = range(3)
TUNING_SEED = 100  # its data choose rates, and no run of the study has them
STEPS, ROUNDS, RANK = 320, 10, 16  # steps of all sites together, however they are divided: equal compute
MORE = 4  # times as many steps, after which central answers hardly get better
MOST = 16  # times as many, so that each of 16 sites has as many as one that has all data
SKEWS = (0.1, 0.5, 1.0, inf)
CLIENTS = (2, 4, 8, 16)
MOMENTUM = 0.6


@dataclass(frozen=True)
class Kind:
    """What has a rate of its own.

    Attributes:
        clients, steps, method, dora, momentum: as in :class:`~research.fedumm.trial.Trial`.
    """

    clients: int
    steps: int = STEPS
    method: str = "fedit"
    dora: bool = False
    momentum: float = 0.0


# The rates to choose from. The more sites share the steps, the fewer each has, and the larger they may be.
GRID = {
    Kind(1): (2.0, 4.0, 8.0, 16.0),
    Kind(4): (4.0, 8.0, 16.0),
    Kind(16): (8.0, 16.0, 32.0),
}
BETWEEN = {
    Kind(2): (4.0, 8.0, 16.0),
    Kind(8): (4.0, 8.0, 16.0),
}
LONGER = {
    Kind(1, MORE * STEPS): (2.0, 4.0, 8.0),
    Kind(4, MORE * STEPS): (4.0, 8.0, 16.0),
    Kind(16, MORE * STEPS): (4.0, 8.0, 16.0),
}
METHODS = {
    Kind(4, method="ffa"): (4.0, 8.0, 16.0),
    Kind(4, method="geo"): (4.0, 8.0, 16.0),
    Kind(4, method="geo", dora=True): (4.0, 8.0, 16.0),
    Kind(1, method=FULL): (1.0, 2.0, 4.0),
    Kind(4, method=FULL): (1.0, 2.0, 4.0),
    Kind(4, method="local"): (4.0, 8.0, 16.0),
    Kind(4, momentum=MOMENTUM): (2.0, 4.0, 8.0),
    Kind(4, method="fedprox"): (4.0, 8.0, 16.0),
    Kind(4, method="fedex"): (4.0, 8.0, 16.0),
    Kind(4, method="fedsa"): (4.0, 8.0, 16.0),
}
RATES: Mapping[Kind, Sequence[float]] = GRID | LONGER | METHODS | BETWEEN
LEFT_OUT = ("rehearsal", "drift", "falling", "weight")
Chosen = Mapping[Kind, float]


def kind_of(run: Mapping[str, Any]) -> Kind:
    """The kind of a row, or of a trial as a mapping."""
    return Kind(run["clients"], run["steps"], run["method"], bool(run["dora"]), run["momentum"])


def tuning() -> list[Trial]:
    """Every kind at its rates, on data of their own; several sites have α = 0.5."""
    return [_trial(kind, rate, 0.5, TUNING_SEED) for kind, rates in RATES.items() for rate in rates]


def chosen(rows: Sequence[Mapping[str, Any]]) -> Chosen:
    """The rate of each kind with the least loss, weighted as in training.

    Raises:
        ConfigError: central training or plain averaging has no row; others are left out until they have.
    """
    best: dict[Kind, tuple[float, float]] = {}
    for row in rows:
        kind = kind_of(row)
        here = row["understanding_loss"] + GENERATION_WEIGHT * row["generation_loss"], row["rate"]
        best[kind] = min(best.get(kind, here), here)
    if missing := [kind for kind in (Kind(1), Kind(4)) if kind not in best]:
        raise ConfigError(f"no rate of {missing[0]}", remedy="first: python -m research.fedumm tuning")
    return {kind: rate for kind, (_, rate) in best.items()}


def trials(rates: Chosen) -> list[Trial]:
    """All runs whose rate has been chosen.

    For each seed the base, and 1, 4 and 16 sites; those with more steps; then methods, what is left out, ranks and
    rounds; 16 sites with the most steps, at the rate of fewer; and then the rest of the paper's grid.
    """
    found = []
    for seed in SEEDS:
        found.append(Trial(1, inf, "fedit", RANK, 0, 1, 0.0, 1.0, seed))
        found += [_trial(kind, rates[kind], alpha, seed) for kind in GRID for alpha in (0.5, 0.1) if kind in rates]
    for seed, alpha in product(SEEDS, (0.5, 0.1)):
        found += [_trial(kind, rates[kind], alpha, seed) for kind in LONGER if kind in rates]
    plain, divided = Kind(4), Kind(16, MORE * STEPS)
    for seed in SEEDS:
        found += [_trial(kind, rates[kind], 0.5, seed) for kind in METHODS if kind in rates]
        if plain in rates:
            base = _trial(plain, rates[plain], 0.5, seed)
            found += [replace(base, without=part) for part in LEFT_OUT]
            found += [replace(base, rank=rank) for rank in (4, 64)]
            found += [replace(base, rounds=rounds) for rounds in (4, 40)]
    if divided in rates:
        found += [replace(_trial(divided, rates[divided], 0.5, seed), steps=MOST * STEPS) for seed in SEEDS]
    for seed in SEEDS:
        found += [
            _trial(kind, rates[kind], alpha, seed) for kind in GRID | BETWEEN for alpha in SKEWS if kind in rates
        ]
    return list(dict.fromkeys(found))


def _trial(kind: Kind, rate: float, alpha: float, seed: int) -> Trial:
    return Trial(
        kind.clients,
        inf if kind.clients == 1 else alpha,
        kind.method,
        RANK,
        kind.steps,
        ROUNDS,
        kind.momentum,
        rate,
        seed,
        dora=kind.dora,
    )
