"""The study of FedUMM: every run that is missing from its tables of results is carried out.

    python -m research.fedumm [tuning] [--workers 2] [--minutes 600] [--folder FOLDER] [--results research/results]

Every finished run is a row of `fedumm.csv` at once; the first seed of everything comes first. `tuning` fills
`fedumm-tuning.csv` instead, from which the rates are chosen, and has to come first.
"""

from __future__ import annotations

import argparse
import multiprocessing
from dataclasses import fields
from functools import partial
from math import inf
from pathlib import Path

from research.fedumm.studies import chosen, trials, tuning
from research.fedumm.trial import Trial, quiet, run
from research.pool import carry_out
from research.rows import RESULTS, append, read

FOLDER = Path("~/.cache/fedgram/fedumm-study").expanduser()
ORDER = tuple(field.name for field in fields(Trial))


def main() -> None:
    """Carry out the trials that are missing; a trial that fails is named, and the others go on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("study", nargs="?", choices=("tuning", "fedumm"), default="fedumm")
    parser.add_argument("--workers", type=int, default=multiprocessing.cpu_count())
    parser.add_argument("--minutes", type=float, default=inf, help="start no run after so many minutes")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="of the drawn data")
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args()
    tuned = options.results / "fedumm-tuning.csv"
    path, wanted = (
        (tuned, tuning())
        if options.study == "tuning"
        else (options.results / "fedumm.csv", trials(chosen(read(tuned))))
    )
    work, keep = partial(run, folder=options.folder), partial(append, path, order=ORDER)
    carry_out(
        options.study,
        wanted,
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
