"""The study of FedUMM: every run that is missing from its table of results is carried out.

    python -m research.fedumm [--workers 2] [--minutes 600] [--folder FOLDER] [--results research/results]

Every finished run is a row of `fedumm.csv` at once; the first seed of everything comes first.
"""

from __future__ import annotations

import argparse
import multiprocessing
from dataclasses import fields
from functools import partial
from itertools import product
from math import inf
from pathlib import Path

from research.fedumm.trial import Trial, quiet, run
from research.pool import carry_out
from research.rows import RESULTS, append

FOLDER = Path("~/.cache/fedgram/fedumm-study").expanduser()
SEEDS = range(3)
ORDER = tuple(field.name for field in fields(Trial))


def trials() -> list[Trial]:
    """All trials: base, ceiling, the paper's grid and the floor; then methods, ranks and rounds on four sites."""
    grid = [(1, inf), *product((4, 16, 2, 8), (0.1, inf, 0.5, 1.0))]
    found = []
    for seed in SEEDS:
        found += [Trial(1, inf, "fedit", 16, 0, seed)]
        found += [Trial(clients, alpha, "fedit", 16, 10, seed) for clients, alpha in grid]
        found += [Trial(4, alpha, "local", 16, 10, seed) for alpha in (0.1, inf, 0.5, 1.0)]
        found += [Trial(4, 0.5, "ffa", 16, 10, seed), Trial(4, 0.5, "geo", 16, 10, seed, dora=True)]
        found += [Trial(4, 0.5, "fedsa", 16, 10, seed)]
        found += [Trial(4, 0.5, "fedit", rank, 10, seed) for rank in (4, 64)]
        found += [Trial(4, 0.5, "fedit", 16, rounds, seed) for rounds in (1, 4, 40)]
    return list(dict.fromkeys(found))


def main() -> None:
    """Carry out the trials that are missing; a trial that fails is named, and the others go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--minutes", type=float, default=inf, help="start no run after so many minutes")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the drawn data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    path = options.results / "fedumm.csv"
    work, keep = partial(run, folder=options.folder), partial(append, path, order=ORDER)
    carry_out(
        "fedumm",
        trials(),
        work,
        keep,
        quiet,
        kind=Trial,
        table=path,
        minutes=options.minutes,
        workers=options.workers,
    )


if __name__ == "__main__":
    main()
