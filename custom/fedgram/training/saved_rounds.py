"""A site's state after each of its last rounds, on disk twice, and the folders of old runs."""

from __future__ import annotations

import fcntl
import logging
import shutil
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from torch import Tensor

from fedgram.errors import CheckpointError
from fedgram.files import read_tensors, write_tensors

log = logging.getLogger("fedgram.site")

_KEPT_ROUNDS = 3  # a server that restarts may ask for the round before the one that a site has already done
_KEPT_RUNS, _DAY, _MONTH = 4, 86_400, 30 * 86_400


def save_round(folder: Path, round: int, tensors: Mapping[str, Tensor]) -> None:
    """Keep the state after a round, twice, and of those before it the last two; later rounds are done again."""
    rounds = _kept_rounds(folder)
    for stale in [r for r in rounds if r > round]:
        _forget_round(folder, stale)
    earlier = [r for r in rounds if r < round]
    for path in _copies(folder, round):
        write_tensors(path, tensors, {"before": str(earlier[-1]) if earlier else ""})
    for old in earlier[: 1 - _KEPT_ROUNDS]:
        _forget_round(folder, old)


def load_before(folder: Path, round: int) -> dict[str, Tensor] | None:
    """The latest state of a round before ``round``, or None when the site has not trained before it.

    Raises:
        CheckpointError: both copies of it are damaged, or it is not kept any more.
    """
    rounds = _kept_rounds(folder)
    earlier = [r for r in rounds if r < round]
    if earlier:
        return _read_round(folder, earlier[-1])[0]
    if rounds and (before := _read_round(folder, rounds[0])[1]["before"]):
        raise CheckpointError(
            f"the state after round {before} is not kept any more, and round {round} begins with it",
            where=folder,
            expected=f"a round after {rounds[0]}",
            remedy="delete the server's state of this job: it then starts afresh",
        )
    return None


def prune_runs(folder: Path, current: Path) -> None:
    """Remove old runs from a site's folder: untouched for a month, or for a day where newer ones are many.

    Results that were left half published by a killed process go after a day.
    The current run stays, and one that a living session uses; so does every run where there are no locks.
    """
    for left in folder.glob(".*-*"):
        if time.time() - left.stat().st_mtime > _DAY:
            shutil.rmtree(left, ignore_errors=True)
    ages = {path: time.time() - path.stat().st_mtime for path in folder.glob("run-*") if path != current}
    for place, other in enumerate(sorted(ages, key=ages.__getitem__)):
        if ages[other] > (_MONTH if place < _KEPT_RUNS else _DAY):
            with locked(other, fcntl.LOCK_EX | fcntl.LOCK_NB) as unused:
                if unused:
                    shutil.rmtree(other, ignore_errors=True)


def _copies(folder: Path, round: int) -> tuple[Path, Path]:
    name = f"round-{round:05d}.safetensors"
    return folder / name, folder / "copy" / name


def _kept_rounds(folder: Path) -> list[int]:
    return sorted({int(path.stem.removeprefix("round-")) for path in folder.rglob("round-*.safetensors")})


def _forget_round(folder: Path, round: int) -> None:
    for path in _copies(folder, round):
        path.unlink(missing_ok=True)


def _read_round(folder: Path, round: int) -> tuple[dict[str, Tensor], dict[str, str]]:
    first, second = _copies(folder, round)
    remedy = (
        f"restore it, or delete it and {second}: the site then goes on from the state before, with other numbers"
    )
    try:
        return read_tensors(first, remedy)
    except CheckpointError as error:
        with suppress(CheckpointError):
            intact = read_tensors(second, remedy)
            log.warning("%s: %s; its copy is used", first, error.problem)
            return intact
        raise


@contextmanager
def locked(folder: Path, how: int) -> Generator[bool]:
    """Hold the lock of a folder, and say whether it could be had: some file systems have none."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "ab") as file:
        try:
            fcntl.flock(file, how)
        except OSError:
            yield False
        else:
            yield True
