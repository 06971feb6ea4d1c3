"""Every trial of the price of privacy that is missing from the table of results is carried out.

    python -m research.privacy [--folder FOLDER] [--results FILE] [--minutes N]

Every finished trial is a row at once. A trial that is there is not repeated: delete the file to start afresh.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

from research.pool import run_all
from research.privacy.trial import LINES, ORDER, Trial, run
from research.rows import RESULTS, append, done
from research.worth.trial import one_core

FEDERATIONS = ("synthetic", "carnivora")
SEEDS = range(3)
TABLE = RESULTS / "privacy.csv"


def trials() -> Iterator[Trial]:
    """All lines on both federations, seed by seed."""
    return (Trial(federation, line, seed) for seed, federation, line in product(SEEDS, FEDERATIONS, LINES))


def main() -> None:
    """Carry out what is missing."""
    parser = argparse.ArgumentParser(prog="python -m research.privacy", description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("results/privacy"), help="the federations' files")
    parser.add_argument("--results", type=Path, default=TABLE, help="the table")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no trial begins")
    args = parser.parse_args()
    there = done(args.results, Trial)
    missing = [trial for trial in trials() if trial not in there]
    keep = partial(append, args.results, order=ORDER)
    work = partial(run, folder=args.folder.resolve())
    failed = run_all("privacy", missing, work, keep, one_core, workers=1, minutes=args.minutes)
    if failed:
        raise SystemExit(f"{len(failed)} trials failed")


if __name__ == "__main__":
    main()
