"""Every run of the attacks that is missing from the table of results is carried out, the first seed of all first.

    python -m research.leakage [--folder FOLDER] [--results FILE] [--minutes N]

The scores of a run are rows at once. A run that is there is not repeated: delete the file to start afresh.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from research.leakage.trial import ATTACKS, ORDER, Run, lines, run
from research.pool import run_all
from research.rows import RESULTS, Row, append, done
from research.worth.trial import one_core

SEEDS = range(3)
EPSILONS = (3.0, 1.0, 8.0)
TABLE = RESULTS / "leakage.csv"


def trials() -> Iterator[Run]:
    """The whole grid: without noise whatever the attacker knows, with noise what helps it most."""
    for seed in SEEDS:
        yield from _strongest(0.0, seed)
        if seed == 0:
            yield from _weaker(seed)
        for epsilon in EPSILONS:
            yield from _strongest(epsilon, seed)
    for seed in SEEDS[1:]:
        yield from _weaker(seed)


def _strongest(epsilon: float, seed: int) -> Iterator[Run]:
    return (Run(attack, knows[0], epsilon, seed) for attack, (_, knows) in ATTACKS.items())


def _weaker(seed: int) -> Iterator[Run]:
    return (Run(attack, less, 0.0, seed) for attack, (_, knows) in ATTACKS.items() for less in knows[1:])


def keep(trial: Run, row: Row, *, table: Path) -> None:
    """Add the scores of a run to the table."""
    for line, numbers in lines(trial, row).items():
        append(table, line, numbers, order=ORDER)


def main() -> None:
    """Carry out what is missing."""
    parser = argparse.ArgumentParser(prog="python -m research.leakage", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/leakage"), help="the federations' files")
    parser.add_argument("--results", type=Path, default=TABLE, help="the table")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no run begins")
    args = parser.parse_args()
    there = done(args.results, Run)
    missing = [trial for trial in trials() if trial not in there]
    work = partial(run, folder=args.folder.resolve())
    failed = run_all(
        "leakage", missing, work, partial(keep, table=args.results), one_core, workers=1, minutes=args.minutes
    )
    if failed:
        raise SystemExit(f"{len(failed)} runs failed")


if __name__ == "__main__":
    main()
