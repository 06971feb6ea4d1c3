"""Every trial of the attacks that is missing from the table of results is carried out, the telling ones first.

    python -m research.attacks [--folder FOLDER] [--results FILE] [--minutes N]

Every finished trial is a row at once. A trial that is there is not repeated: delete the file to start afresh.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

from research.attacks.attacks import LIES
from research.attacks.trial import ABSENT, HONEST, ORDER, RULES, Trial, run
from research.pool import arguments, carry_out
from research.rows import RESULTS, append
from research.worth.trial import one_core

SEEDS, REAL_SEEDS = range(3), range(5)  # carnivora has few test samples, and its seeds differ more
TABLE = RESULTS / "attacks.csv"
_ALL = (ABSENT, HONEST, *LIES)
_KEY = (ABSENT, HONEST, "sign flip", "scaling", "small flips", "claims", "misleading G")
_FIRST = ("default", "plain mean")


def trials() -> Iterator[Trial]:
    """The whole grid on the made federation, and the key rows on the real one; what tells most comes first."""
    others = [rule for rule in RULES if rule not in _FIRST]
    for seed in SEEDS:
        for attack, rule in product(_ALL, _FIRST):
            yield Trial("synthetic", 4, 1, attack, rule, seed)
        if seed == 0:
            for attack, rule in product(_KEY, others):
                yield Trial("synthetic", 4, 1, attack, rule, seed)
    for attack, rule in product(_KEY, _FIRST):
        yield Trial("carnivora", 4, 1, attack, rule, 0)
    for attack, rule in product(_KEY, _FIRST):
        yield Trial("synthetic", 8, 2, attack, rule, 0)
    for seed, attack, rule in product(SEEDS, _ALL, others):
        yield Trial("synthetic", 4, 1, attack, rule, seed)
    for seed, attack, rule in product(SEEDS, _ALL, RULES):
        yield Trial("synthetic", 8, 2, attack, rule, seed)
    for seed, attack, rule in product(REAL_SEEDS, _KEY, (*_FIRST, "median Ḡ")):
        yield Trial("carnivora", 4, 1, attack, rule, seed)


def main() -> None:
    """Carry out what is missing."""
    args = arguments("research.attacks", __doc__, folder="results/attacks", table=TABLE)
    work, kept = partial(run, folder=args.folder), partial(append, args.results, order=ORDER)
    carry_out("attacks", trials(), work, kept, one_core, kind=Trial, table=args.results, minutes=args.minutes)


if __name__ == "__main__":
    main()
