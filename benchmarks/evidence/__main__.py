"""Runs studies, and goes on where it stopped.

    python -m benchmarks.evidence [STUDY …] [--workers 2] [--folder FOLDER] [--results benchmarks/results]

Every finished run is a row of `benchmarks/results/<study>.csv` at once. A run that is there is not repeated:
delete the file to start afresh.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.evidence.experiment import Experiment, quiet, run
from benchmarks.evidence.measure import Row
from benchmarks.evidence.studies import STUDIES

RESULTS = Path(__file__).resolve().parents[1] / "results"
FOLDER = Path("~/.cache/fedgram/evidence").expanduser()
KEYS = [field.name for field in fields(Experiment)]


def main() -> None:
    """Run what is missing; a run that fails is named, and the others go on."""
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
    failed = [
        failure
        for study in options.studies
        for failure in carry_out(study, options.folder, options.results, options.workers, options.minutes)
    ]
    raise SystemExit(bool(failed))


def carry_out(study: str, folder: Path, results: Path, workers: int, minutes: float) -> list[Experiment]:
    """Run what is missing of a study; returns what failed."""
    path, console = results / f"{study}.csv", Console()
    missing = [e for e in dict.fromkeys(STUDIES[study]()) if e not in done(path)]
    deadline, failed = time.monotonic() + 60 * minutes, []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=console) as progress,
        ProcessPoolExecutor(workers, mp_context=context, initializer=quiet) as pool,
    ):
        task = progress.add_task(study, total=len(missing))
        waiting, running = iter(missing), {}
        while True:
            while len(running) < workers and time.monotonic() < deadline:
                experiment = next(waiting, None)
                if experiment is None:
                    break
                running[pool.submit(run, experiment, folder)] = experiment
            if not running:
                return failed
            finished = next(as_completed(running))
            experiment = running.pop(finished)
            error = finished.exception()
            if error is None:
                append(path, experiment, finished.result())
            else:
                failed.append(experiment)
                console.print(f"{experiment}: {type(error).__name__}: {error}", style="red", markup=False)
            progress.advance(task)


Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """The rows of a study, without the measures that a row does not have; none before its first run."""
    if not path.exists():
        return []
    rows: Rows = pd.read_csv(path).to_dict("records")  # pyright: ignore[reportAssignmentType]
    return [{name: value for name, value in row.items() if value == value} for row in rows]


def done(path: Path) -> set[Experiment]:
    """The experiments that have a row."""
    return {Experiment(**{name: row[name] for name in KEYS}) for row in read(path)}


def append(path: Path, experiment: Experiment, row: Row) -> None:
    """Add a row, in order; the file is replaced at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {**asdict(experiment), **{name: round(value, 6) for name, value in row.items()}}
    table = pd.DataFrame([*read(path), fresh]).sort_values(
        ["split", "federation", "sites", "alpha", "broken", "method", "seed"]
    )
    part = path.with_suffix(".part")
    table.to_csv(part, index=False, lineterminator="\n")
    part.replace(path)


if __name__ == "__main__":
    main()
