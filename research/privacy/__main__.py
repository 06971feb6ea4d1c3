"""Every trial of the price of privacy that is missing from the table of results is carried out.

    python -m research.privacy [--folder FOLDER] [--results FILE] [--minutes N]

Every finished trial is a row at once. A trial that is there is not repeated: delete the file to start afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

from research.pool import arguments, carry_out
from research.privacy.trial import LINES, ORDER, Trial, run
from research.rows import RESULTS, append
from research.worth.trial import one_core

FEDERATIONS = ("synthetic", "carnivora")
SEEDS = range(3)
TABLE = RESULTS / "privacy.csv"


def trials() -> Iterator[Trial]:
    """All lines on both federations, seed by seed."""
    return (Trial(federation, line, seed) for seed, federation, line in product(SEEDS, FEDERATIONS, LINES))


def main() -> None:
    """Carry out what is missing."""
    args = arguments("research.privacy", __doc__, folder="results/privacy", table=TABLE)
    work, kept = partial(run, folder=args.folder), partial(append, args.results, order=ORDER)
    carry_out("privacy", trials(), work, kept, one_core, kind=Trial, table=args.results, minutes=args.minutes)


if __name__ == "__main__":
    main()
