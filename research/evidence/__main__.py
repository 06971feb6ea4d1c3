"""The studies of methods: every run that is missing from the tables of results is carried out.

    python -m research.evidence [STUDY …] [--workers 2] [--folder FOLDER] [--results research/results]

Every finished run is a row of `research/results/<study>.csv` at once. A run that is there is not repeated:
delete the file to start afresh.
"""

from __future__ import annotations

import argparse
import multiprocessing
from functools import partial
from pathlib import Path

from research.evidence.analyse import MEASURES, by_federation, by_method
from research.evidence.experiment import ORDER, Experiment, quiet, run
from research.evidence.studies import STUDIES
from research.pool import run_all
from research.rows import RESULTS, append, done, read

FOLDER = Path("~/.cache/fedgram/evidence").expanduser()


def main() -> None:
    """Carry out the runs that are missing; a run that fails is named, and the others go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("studies", nargs="*", default=["quick"], metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the federations' files")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="start no run after so many minutes")
    options = parser.parse_args()
    unknown = sorted(set(options.studies) - STUDIES.keys())
    if unknown:
        parser.error(f"no study {unknown[0]!r}; there are {', '.join(STUDIES)}")
    failed = []
    for study in options.studies:
        failed += carry_out(study, options.folder, options.results, options.workers, options.minutes)
        print(by_federation(read(options.results / f"{study}.csv"), lambda own: by_method(own, MEASURES)))
    raise SystemExit(bool(failed))


def carry_out(study: str, folder: Path, results: Path, workers: int, minutes: float) -> list[Experiment]:
    """Carry out the runs of a study that are missing; returns those that failed."""
    path = results / f"{study}.csv"
    there = done(path, Experiment)
    missing = [experiment for experiment in dict.fromkeys(STUDIES[study]()) if experiment not in there]
    work, keep = partial(run, folder=folder), partial(append, path, order=ORDER)
    return run_all(study, missing, work, keep, quiet, workers=workers, minutes=minutes)


if __name__ == "__main__":
    main()
