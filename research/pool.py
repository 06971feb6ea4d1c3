"""Trials run in processes of their own: a few at once, none begun after a while, each result kept at once.

A study is a grid of trials and a table; :func:`carry_out` runs what has no row yet.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from research.rows import Row, done

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Trial = TypeVar("Trial", bound="DataclassInstance")


def run_all(
    title: str,
    trials: Iterable[Trial],
    work: Callable[[Trial], Row],
    keep: Callable[[Trial, Row], None],
    prepare: Callable[[], None],
    *,
    workers: int,
    minutes: float,
) -> list[Trial]:
    """Carry trials out; those that fail are named and returned, and the others go on.

    Args:
        work: makes a row; called in another process, so it must be importable.
        keep: of each row, here, as soon as it is there.
        prepare: called once in each process.
        minutes: after which no trial begins.
    """
    trials, console = list(trials), Console()
    deadline, failed = time.monotonic() + 60 * minutes, []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeRemainingColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=console) as progress,
        ProcessPoolExecutor(workers, mp_context=context, initializer=prepare) as pool,
    ):
        task = progress.add_task(title, total=len(trials))
        waiting, running = iter(trials), {}
        while True:
            while len(running) < workers and time.monotonic() < deadline:
                trial = next(waiting, None)
                if trial is None:
                    break
                running[pool.submit(work, trial)] = trial
            if not running:
                return failed
            finished = next(as_completed(running))
            trial, error = running.pop(finished), finished.exception()
            if error is None:
                keep(trial, finished.result())
            else:
                failed.append(trial)
                console.print(f"{trial}: {type(error).__name__}: {error}", style="red", markup=False)
            progress.advance(task)


def carry_out(
    title: str,
    trials: Iterable[Trial],
    work: Callable[[Trial], Row],
    keep: Callable[[Trial, Row], None],
    prepare: Callable[[], None],
    *,
    kind: type[Trial],
    table: Path,
    minutes: float,
    workers: int = 1,
) -> None:
    """Carry out the trials that have no row in a table; the other arguments are those of :func:`run_all`.

    Args:
        kind: the dataclass of a trial.

    Raises:
        SystemExit: one has failed.
    """
    there = done(table, kind)
    missing = [trial for trial in dict.fromkeys(trials) if trial not in there]
    if failed := run_all(title, missing, work, keep, prepare, workers=workers, minutes=minutes):
        raise SystemExit(f"{len(failed)} trials failed")


def arguments(prog: str, description: str | None, *, folder: str, table: Path) -> argparse.Namespace:
    """The command line of a study: ``folder`` (absolute), ``results`` and ``minutes``."""
    parser = argparse.ArgumentParser(prog=f"python -m {prog}", description=description)
    parser.add_argument("--folder", type=Path, default=Path(folder), help="the federations' files")
    parser.add_argument("--results", type=Path, default=table, help="the table")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no trial begins")
    args = parser.parse_args()
    args.folder = args.folder.resolve()
    return args
