"""The account of a site's privacy over jobs and restarts: on disk, booked before a round is computed.

A job costs what its rounds amount to together (:mod:`fedgram.sites.accountant`). Jobs add up, in ε and in δ, which
holds also where a job is chosen in view of what came of the last (Rogers et al. 2016, basic composition). A round
that is computed again from the very same start gives the very same reply, and costs nothing more.

Everything fails closed: without the lock, with a damaged account, or one that is older than the rounds beside it,
there is no reply.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from fedgram.config.privacy import PrivacyConfig
from fedgram.errors import CheckpointError, ConfigError
from fedgram.files import exclusively, read_small, write_text
from fedgram.sites.accountant import spent_epsilon
from fedgram.sites.guarantee import Guarantee

FILE, MARK = "privacy.json", "privacy-charges"
_LOCK, _FORMAT = "privacy.lock", 1
_PLAN = ("epsilon", "delta", "clip", "rate", "multiplier", "steps")
_REMEDY = (
    "restore it from a backup; nothing that was sent can be called back, so deleting it forgets what was spent"
)


@dataclass(frozen=True)
class Spent:
    """The ε and δ of all jobs so far."""

    epsilon: float
    delta: float


class Budget:
    """The account of one site.

    Args:
        name: of the site, for messages.
        folder: of the site's own state.
        privacy: the limits, of the site's own file.
    """

    def __init__(self, name: str, folder: Path, privacy: PrivacyConfig):
        self._name, self._folder, self._privacy = name, folder, privacy

    def charge(self, run: str, guarantee: Guarantee, start: str, steps: int) -> None:
        """Book a round before it is computed; nothing where this very round is booked already.

        Args:
            run: that the round is of, see :func:`~fedgram.sites.runs.run_name`.
            start: digest of all that it starts from.
            steps: of the round.

        Raises:
            ConfigError: the budget would be exceeded.
            CheckpointError: the account is damaged, gone, older than the rounds beside it, or cannot be locked.
        """
        plan = {name: getattr(guarantee, name) for name in _PLAN}
        key = sha256(json.dumps([run, plan], sort_keys=True).encode()).hexdigest()
        with exclusively(self._folder / _LOCK):
            jobs = self._read()
            job = jobs.setdefault(key, {"run": run, **plan, "rounds": {}})
            if start not in job["rounds"]:
                job["rounds"][start] = steps
                self._require_room(jobs, key, guarantee.groups)
                self._write(jobs)
                mark = self._folder / f"run-{run}" / MARK
                write_text(mark, str(_rounds(jobs, run)))

    def spent(self) -> Spent:
        """The account as it stands.

        Raises:
            CheckpointError: see :meth:`charge`.
        """
        return _sum(self._read(), "")

    def _require_room(self, jobs: Mapping[str, Any], current: str, groups: int) -> None:
        after, limit = _sum(jobs, current), self._privacy.total
        where, remedy = (
            f"{self._name}: privacy",
            "raise privacy.budget in the site file, if so much may be told",
        )
        if after.epsilon > limit * (1 + 1e-9):
            problem = f"the budget is used up: ε would be {after.epsilon:.3g}"
            raise ConfigError(problem, where=where, expected=f"at most {limit:g} over all jobs", remedy=remedy)
        if after.delta * groups >= 1:
            problem = f"the budget is used up: δ would be {after.delta:.3g} over all jobs"
            raise ConfigError(problem, where=where, expected=f"below 1 / {groups} groups", remedy="no further job")

    def _read(self) -> dict[str, Any]:
        path = self._folder / FILE
        marks = {mark.parent.name.removeprefix("run-"): mark for mark in self._folder.glob(f"run-*/{MARK}")}
        if not path.exists():
            if marks:
                raise CheckpointError("no account of the rounds beside it", where=path, remedy=_REMEDY)
            return {}
        try:
            content = json.loads(read_small(path, CheckpointError))
            jobs = content["jobs"]
            intact = content["format"] == _FORMAT and content["sha256"] == _checksum(jobs)
            behind = [run for run, mark in marks.items() if _rounds(jobs, run) < int(mark.read_text())]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CheckpointError(f"damaged ({type(error).__name__})", where=path, remedy=_REMEDY) from None
        if not intact:
            raise CheckpointError("damaged (its checksum does not fit)", where=path, remedy=_REMEDY)
        if behind:
            raise CheckpointError("older than the rounds beside it", where=path, remedy=_REMEDY)
        return jobs

    def _write(self, jobs: Mapping[str, Any]) -> None:
        content = {"format": _FORMAT, "jobs": jobs, "sha256": _checksum(jobs)}
        try:
            write_text(self._folder / FILE, json.dumps(content, indent=1))
            directory = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(directory)  # the new file's name, too, before anything is computed
            finally:
                os.close(directory)
        except OSError as error:
            remedy = "free disk space or mend rights: without the account nothing leaves"
            raise CheckpointError(
                f"cannot be written ({error})", where=self._folder / FILE, remedy=remedy
            ) from error


def _sum(jobs: Mapping[str, Any], current: str) -> Spent:
    """The ε and δ of all jobs; the current one counts as a whole from its first round on."""
    costs = [_cost(job, whole=key == current) for key, job in jobs.items()]
    return Spent(sum(costs), sum(job["delta"] for job in jobs.values()))


def _cost(job: Mapping[str, Any], *, whole: bool) -> float:
    steps = sum(job["rounds"].values())
    if steps == job["steps"] or (whole and steps < job["steps"]):
        return job["epsilon"]
    return spent_epsilon(job["multiplier"], job["delta"], job["rate"], steps)


def _rounds(jobs: Mapping[str, Any], run: str) -> int:
    """The number of rounds that are booked for a run."""
    return sum(len(job["rounds"]) for job in jobs.values() if job["run"] == run)


def _checksum(jobs: Mapping[str, Any]) -> str:
    return sha256(json.dumps(jobs, sort_keys=True).encode()).hexdigest()
