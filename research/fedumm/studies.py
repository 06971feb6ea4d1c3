"""The runs of the study of FedUMM, each kind at the rate and momentum that were best on other data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import inf
from typing import Any

from fedgram.errors import ConfigError

from research.fedumm.trial import Trial

SEEDS = range(3)
TUNING_SEED = 100  # its data choose rates, and no run of the study has them
STEPS, ROUNDS, RANK = 320, 10, 16  # steps of all sites together, however they are divided: equal compute
MORE = 4  # times as many steps, until which answers get better
SKEWS = (0.1, 0.5, 1.0, inf)
CLIENTS = (2, 4, 8, 16)
RATES, MOMENTA = (1.0, 2.0, 4.0), (0.0, 0.6)


@dataclass(frozen=True)
class Kind:
    """What has a rate and a momentum of its own.

    Attributes:
        central: one site has all data.
        method, dora: as in :class:`~research.fedumm.trial.Trial`.
    """

    central: bool
    method: str
    dora: bool = False


CENTRAL, FEDIT, LOCAL = Kind(True, "fedit"), Kind(False, "fedit"), Kind(False, "local")
METHODS = (Kind(False, "ffa"), Kind(False, "geo"), Kind(False, "geo", dora=True), Kind(False, "fedsa"))
Chosen = Mapping[Kind, tuple[float, float]]  # rate and momentum


def tuning() -> list[Trial]:
    """Every kind at every rate, plain averaging at every momentum too: four sites at α = 0.5."""
    found = []
    for kind in (CENTRAL, FEDIT, LOCAL, *METHODS):
        momenta = MOMENTA if kind == FEDIT else (0.0,)
        for rate, momentum in product(RATES, momenta):
            clients, alpha = (1, inf) if kind.central else (4, 0.5)
            found.append(
                Trial(
                    clients, alpha, kind.method, RANK, STEPS, ROUNDS, momentum, rate, TUNING_SEED, dora=kind.dora
                )
            )
    return found


def chosen(rows: Sequence[Mapping[str, Any]]) -> Chosen:
    """The rate and momentum of each kind with the highest sum of VQA accuracy and GenEval.

    Raises:
        ConfigError: central training or plain averaging has no row; others are left out until they have.
    """
    best: dict[Kind, tuple[float, tuple[float, float]]] = {}
    for row in rows:
        kind = Kind(row["clients"] == 1, row["method"], bool(row["dora"]))
        here = row["vqa_accuracy"] + row["geneval"], (row["rate"], row["momentum"])
        best[kind] = max(best.get(kind, here), here)
    if missing := [kind for kind in (CENTRAL, FEDIT) if kind not in best]:
        raise ConfigError(f"no rate of {missing[0]}", remedy="first: python -m research.fedumm tuning")
    return {kind: setting for kind, (_, setting) in best.items()}


def trials(settings: Chosen) -> list[Trial]:
    """All runs: base, central training and the paper's grid; then more steps, methods, ranks and rounds."""

    def of(kind: Kind, clients: int, alpha: float, rank: int, steps: int, rounds: int, seed: int) -> Trial:
        rate, momentum = settings[kind]
        return Trial(clients, alpha, kind.method, rank, steps, rounds, momentum, rate, seed, dora=kind.dora)

    found = []
    for seed in SEEDS:
        found += [Trial(1, inf, "fedit", RANK, 0, 1, 0.0, 1.0, seed)]
        found += [
            of(CENTRAL, 1, inf, RANK, STEPS, ROUNDS, seed),
            of(CENTRAL, 1, inf, RANK, MORE * STEPS, ROUNDS, seed),
        ]
        for clients, alpha in product((4, 16), (0.5, 0.1)):
            found += [of(FEDIT, clients, alpha, RANK, times * STEPS, ROUNDS, seed) for times in (1, MORE)]
    for seed in SEEDS:
        found += [of(kind, 4, 0.5, RANK, STEPS, ROUNDS, seed) for kind in (LOCAL, *METHODS) if kind in settings]
        found += [of(FEDIT, 4, 0.5, rank, STEPS, ROUNDS, seed) for rank in (4, 64)]
        found += [of(FEDIT, 4, 0.5, RANK, STEPS, rounds, seed) for rounds in (4, 40)]
        found += [of(FEDIT, *cell, RANK, STEPS, ROUNDS, seed) for cell in product(CLIENTS, SKEWS)]
    return list(dict.fromkeys(found))
