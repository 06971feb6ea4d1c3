"""Is it worth federating? Every trial that is missing from the tables of results is carried out.

    python -m research.worth [tuning | STUDY …] [--workers 2] [--folder FOLDER] [--results FOLDER] [--minutes N]

Every finished trial is a row of `<study>.csv` at once. A trial that is there is not repeated: delete the file to
start afresh. `tuning` chooses each line's rate on validation data and comes first.
"""

from __future__ import annotations

import argparse
import multiprocessing
from collections.abc import Iterable
from functools import partial
from pathlib import Path

from research.pool import run_all
from research.rows import RESULTS, append, done, read
from research.worth.choice import best_rates
from research.worth.studies import STUDIES, tuning
from research.worth.trial import ORDER, Trial, one_core, run

FOLDER = Path("~/.cache/fedgram/evidence").expanduser()


def main() -> None:
    """Carry out the trials that are missing; one that fails is named, and the others go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(("tuning", *STUDIES)))
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the federations' files")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no trial after so many minutes")
    parser.add_argument("--seeds", type=int, nargs="+", help="of the studies but tuning; all when absent")
    options = parser.parse_args()
    known = ("tuning", *STUDIES)
    if unknown := sorted(set(options.studies) - set(known)):
        parser.error(f"no study {unknown[0]!r}; there are {', '.join(known)}")
    failed = []
    for study in options.studies or known:
        path = options.results / f"{study}.csv"
        trials: Iterable[Trial] = (
            tuning() if study == "tuning" else STUDIES[study](best_rates(read(options.results / "tuning.csv")))
        )
        there = done(path, Trial)
        asked = [t for t in trials if study == "tuning" or options.seeds is None or t.seed in options.seeds]
        missing = [trial for trial in dict.fromkeys(asked) if trial not in there]
        work, keep = partial(run, folder=options.folder), partial(append, path, order=ORDER)
        failed += run_all(study, missing, work, keep, one_core, workers=options.workers, minutes=options.minutes)
    raise SystemExit(bool(failed))


if __name__ == "__main__":
    main()
