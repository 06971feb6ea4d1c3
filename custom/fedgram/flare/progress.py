"""The lines that somebody who watches a run sees, one per event, in the simulator as in the server's log."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from fedgram.config.job import JobConfig
from fedgram.records import RoundRecord, SiteIntroduction, SiteUpdate
from fedgram.training.server import ServerState

MARK = "fedgram |"  # begins every line, so that they can be found in a log
_STAGES = {
    "alone": "training every site alone, for comparison",
    "evaluate": "evaluating the global model",
    "settle": "choosing at every site what to keep",
}


class Progress:
    """An account of a run, with round, site, loss, CKA and the time left.

    Args:
        job: for the number of rounds.
        say: where the lines go.
    """

    def __init__(self, job: JobConfig, say: Callable[[str], object]):
        self._rounds, self._say = job.training.rounds, say
        self._number, self._began, self._first = 0, time.monotonic(), 0

    def _line(self, text: str) -> None:
        self._say(f"{MARK} {text}")

    def introduced(self, reply: SiteIntroduction) -> None:
        """Say that a site is ready."""
        self._line(f"{reply.site} ready: {reply.samples} training samples, {len(reply.slots)} anchors")

    def started(self, state: ServerState) -> None:
        """Say that the rounds begin, or go on."""
        self._first = self._number = state.state.round
        self._began = time.monotonic()
        if self._first:
            self._line(f"resumed after round {self._first}/{self._rounds}")
        for note in state.notes:
            self._line(note)

    def replied(self, update: SiteUpdate) -> None:
        """Say that a site's reply counts."""
        numbers = "  ".join(f"{k} {v:.3f}" for k, v in update.metrics.items() if k != "seconds")
        again = f"  (its training process died {update.restarts}×, started again)" if update.restarts else ""
        self._line(f"round {update.round}/{self._rounds}  {update.site:<16} {numbers}{again}")

    def rejected(self, site: str, reason: str) -> None:
        """Say that a site's reply does not count, and why."""
        self._line(f"{site} does not count: {reason}")

    def round_done(self, record: RoundRecord) -> None:
        """Say that a round is over and saved."""
        done = record.round - self._first
        left = (time.monotonic() - self._began) / done * (self._rounds - record.round)
        out = f", no reply from {', '.join(record.missing)}" if record.missing else ""
        shares = " ".join(f"{site} {share:.2f}" for site, share in record.shares.items())
        self._line(
            f"round {record.round}/{self._rounds}  done in {record.seconds:.0f} s, about {left:.0f} s left; "
            f"shares {shares}{out}"
        )

    def stage(self, task: str) -> None:
        """Say that something other than a round begins."""
        self._line(_STAGES[task])

    def finished(self, results: Path) -> None:
        """Say that all is written."""
        self._line(f"results in {results}")
