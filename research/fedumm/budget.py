"""FedUMM beyond equal compute: more steps, and a server that steps further; GenEval by new and by known words.

    python -m research.fedumm.budget [--minutes 600] [--folder FOLDER] [--results research/results]

Rows go to `fedumm-budgets.csv`, apart from the study's, whose settings are others. Every run is tested as those of
the study are; a prompt is *new* if it names a thing or colour that the base was never told of, else *known*.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial
from itertools import product
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

from fedgram.data.prompts import Prompt
from fedgram.scoring.geneval.rules import score
from fedgram.sites.base import derive_generator
from fedgram.sites.unified import UnifiedSite
from fedgram.sites.unified_data import look
from PIL.Image import Image

from research.fedumm.__main__ import FOLDER
from research.fedumm.trial import STEPS, Trial, drawn_test, federate, judge, open_sites, quiet
from research.pool import carry_out
from research.pretraining.pictures import PUBLIC
from research.rows import RESULTS, append
from research.scenes.demo import WORLD

SEEDS = range(3)
_PART = 36  # pictures at a time


@dataclass(frozen=True)
class Budget:
    """A run to be carried out; its fields are the first columns of the table.

    Attributes:
        clients: sites; 1 is central training.
        alpha: of the Dirichlet over the shapes in the pictures.
        steps: of all sites together.
        rounds: in which they are divided.
        momentum: β of the server's step on the mean change.
        seed: of data, partition and training.
    """

    clients: int
    alpha: float
    steps: int
    rounds: int
    momentum: float
    seed: int


ORDER = tuple(field.name for field in fields(Budget))


def trials() -> list[Budget]:
    """Central training and four sites at the study's compute and four times that; then a server with momentum."""
    found = []
    for seed in SEEDS:
        found += [Budget(1, inf, 0, 1, 0.0, seed)]
        found += [Budget(clients, alpha, 4 * STEPS, 10, 0.0, seed) for clients, alpha in ((1, inf), (4, 0.5))]
        found += [Budget(4, 0.5, steps, 10, 0.6, seed) for steps in (4 * STEPS, STEPS)]
        found += [Budget(4, 0.1, 4 * STEPS, 10, 0.6, seed), Budget(16, 0.5, 4 * STEPS, 10, 0.6, seed)]
        found += [Budget(clients, 0.5, 16 * STEPS, 40, 0.6, seed) for clients in (4, 16)]
        found += [Budget(1, inf, 16 * STEPS, 40, 0.0, seed)]
    return found


def run(budget: Budget, folder: Path) -> dict[str, float]:
    """Train, and test on scenes that nobody trained on: the row of one run."""
    started = time.perf_counter()
    steps = max(1, budget.steps // (budget.clients * budget.rounds))
    plain = Trial(budget.clients, budget.alpha, "fedit", 16, budget.rounds, budget.seed)
    changes: dict[str, dict[str, Any]] = {
        "training": {"local_steps": steps},
        "aggregation": {"server_momentum": budget.momentum},
    }
    job, sites = open_sites(plain, folder, changes)
    costs = federate(sites, job, started) if budget.steps else {}
    items, prompts = drawn_test(folder, budget.seed)
    site = next(iter(sites.values()))
    return judge(site, look(items, site.model.unified), ()) | by_words(site, prompts) | costs


def by_words(site: UnifiedSite, prompts: Sequence[Prompt]) -> dict[str, float]:
    """GenEval of all prompts, of those with a new word and of the others, on one set of pictures."""
    draws, images = derive_generator(site.job.seed, "geneval"), list[Image]()
    for start in range(0, len(prompts), _PART):
        images += site.model.unified.generate([p.text for p in prompts[start : start + _PART]], draws)
    right = [score([p], [image], site.detector)["overall"] for p, image in zip(prompts, images, strict=True)]
    fresh = [is_new(prompt) for prompt in prompts]
    return {
        "geneval": fmean(right),
        "geneval new": fmean(r for r, new in zip(right, fresh, strict=True) if new),
        "geneval known": fmean(r for r, new in zip(right, fresh, strict=True) if not new),
    }


def is_new(prompt: Prompt) -> bool:
    """Whether a prompt names a thing or a colour that the base was never told of."""
    unheard = set(product(WORLD.shapes, (None, *WORLD.colours))) - set(
        product(PUBLIC.shapes, (None, *PUBLIC.colours))
    )
    return any((wanted.label, wanted.colour) in unheard for wanted in prompt.include)


def main() -> None:
    """Carry out the runs that are missing; one that fails is named, and the others go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=inf, help="start no run after so many minutes")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the drawn data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    path = options.results / "fedumm-budgets.csv"
    work, keep = partial(run, folder=options.folder), partial(append, path, order=ORDER)
    carry_out(
        "budgets",
        trials(),
        work,
        keep,
        quiet,
        kind=Budget,
        table=path,
        minutes=options.minutes,
        workers=options.workers,
    )


if __name__ == "__main__":
    main()
