"""Every run of the attacks that is missing from the table of results is carried out, the first seed of all first.

    python -m research.leakage [--folder FOLDER] [--results FILE] [--minutes N]

The scores of a run are rows at once. A run that is there is not repeated: delete the file to start afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from research.leakage.trial import ATTACKS, ORDER, Run, lines, run
from research.pool import arguments, carry_out
from research.rows import RESULTS, Row, append
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
    args = arguments("research.leakage", __doc__, folder="results/leakage", table=TABLE)
    work, kept = partial(run, folder=args.folder), partial(keep, table=args.results)
    carry_out("leakage", trials(), work, kept, one_core, kind=Run, table=args.results, minutes=args.minutes)


if __name__ == "__main__":
    main()
