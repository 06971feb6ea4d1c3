"""The lines that somebody who watches a run sees, one per event, in the simulator as in the server's log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from fedgram.config.job import JobConfig
from fedgram.records import RoundRecord, SiteIntroduction, SiteUpdate
from fedgram.training.masked.messages import MaskedUpdate
from fedgram.training.server import ServerState

MARK = "fedgram |"  # begins every line, so that they can be found in a log
ABORTED = "the job was aborted"
ENDED = "ended by"  # begins the last one of a run that came to nothing
_STAGES = {
    "alone": "training every site alone, for comparison",
    "evaluate": "evaluating the global model",
    "settle": "choosing at every site what to keep",
}
_QUIET_SECONDS = 30.0  # after so long without a word in a stage, its time is told


def ending(error: Exception) -> str:
    """The line that says why a run ended, whatever the server's FLARE makes of its error."""
    return f"{MARK} {ENDED} {type(error).__name__}: {one_line(str(error))}"


def one_line(text: str) -> str:
    """The text as one line of printable characters, so that no site writes a line of its own into the log."""
    return "".join(c if c.isprintable() else " " for c in "; ".join(text.split("\n  ")))


class Progress:
    """An account of a run, with round, site, loss, CKA and the time left.

    A site that trains alone takes as many steps as in all rounds, so that stage takes about as long as they did.

    Args:
        job: for the number of rounds, and whether sites also train alone.
        say: where the lines go.
        clock: seconds since some moment.
    """

    def __init__(self, job: JobConfig, say: Callable[[str], object], clock: Callable[[], float] = time.monotonic):
        self._rounds, self._baseline, self._say, self._clock = job.training.rounds, job.baseline, say, clock
        self._began, self._first = clock(), 0
        self._per_round: float | None = None  # seconds; unknown until one is done
        self._stage, self._sites, self._answers = "", 0, 0
        self._spoke = clock()

    def _line(self, text: str) -> None:
        self._spoke = self._clock()
        self._say(f"{MARK} {one_line(text)}")

    def introduced(self, reply: SiteIntroduction) -> None:
        """Say that a site is ready."""
        samples = f"{reply.samples} training samples, " if reply.samples else ""
        if reply.privacy:
            samples = f"differentially private (ε {reply.privacy['epsilon']:g}), "
        self._line(f"{reply.site} ready: {samples}{len(reply.slots)} anchors")

    def taken_in(self, found: tuple[ServerState, Mapping[str, str]]) -> ServerState:
        """Say why some sites may not take part, and return the state of those who may."""
        state, rejected = found
        for site, reason in rejected.items():
            self.rejected(site, reason)
        return state

    def started(self, state: ServerState) -> None:
        """Say that the rounds begin, or go on."""
        self._first = state.state.round
        self._began = self._clock()
        if state.records:
            self._per_round = sum(record.seconds for record in state.records) / len(state.records)
        if self._first:
            self._line(f"resumed after round {self._first}/{self._rounds}")
        self.noted(state.notes)

    def noted(self, notes: Iterable[str]) -> None:
        """Say what was noted of the run itself."""
        for note in notes:
            self._line(note)

    def replied(self, update: SiteUpdate) -> None:
        """Say that a site's reply counts."""
        numbers = "  ".join(f"{k} {v:.3f}" for k, v in update.metrics.items() if k != "seconds")
        again = f"  (its training process died {update.restarts}×, started again)" if update.restarts else ""
        self._line(f"round {update.round}/{self._rounds}  {update.site:<16} {numbers}{again}")

    def masked(self, update: MaskedUpdate) -> None:
        """Say that a site's masked values have come."""
        again = f"  (its training process died {update.restarts}×, started again)" if update.restarts else ""
        self._line(f"round {update.round}/{self._rounds}  {update.site:<16} masked{again}")

    def rejected(self, site: str, reason: str) -> None:
        """Say that a site's reply does not count, and why."""
        self._line(f"{site} does not count: {reason}")

    def round_done(self, record: RoundRecord) -> None:
        """Say that a round is over and saved."""
        self._per_round = (self._clock() - self._began) / (record.round - self._first)
        left = self._per_round * (self._rounds - record.round + self._rounds * self._baseline)
        also = ", training alone included" if self._baseline else ""
        out = f", no reply from {', '.join(record.missing)}" if record.missing else ""
        shares = " ".join(f"{site} {share:.2f}" for site, share in record.shares.items())
        counted = f"shares {shares}" if shares else f"a sum over {len(record.metrics)} sites"
        self._line(
            f"round {record.round}/{self._rounds}  done in {record.seconds:.0f} s, about {left:.0f} s left{also}; "
            f"{counted}{out}"
        )

    def stage(self, task: str, sites: int) -> None:
        """Say that something other than a round begins, at so many sites."""
        self._stage, self._sites, self._answers, self._began = task, sites, 0, self._clock()
        expected = self._expected()
        self._line(_STAGES[task] + (f", about {expected:.0f} s" if expected else ""))

    def answered(self, site: str) -> None:
        """Say that a site is done with its part of the stage."""
        self._answers += 1
        if self._stage == "alone":
            self._line(f"alone {self._answers}/{self._sites}  {site:<16} done{self._left()}")

    def waiting(self) -> None:
        """Tell the time of a stage in which nothing was said for a while; to be called often."""
        if self._clock() - self._spoke >= _QUIET_SECONDS:
            self._line(
                f"{self._stage} {self._answers}/{self._sites}  {self._elapsed():.0f} s so far{self._left()}"
            )

    def _elapsed(self) -> float:
        return self._clock() - self._began

    def _expected(self) -> float | None:
        return self._per_round * self._rounds if self._per_round and self._stage == "alone" else None

    def _left(self) -> str:
        expected = self._expected()
        if expected is None or self._answers == self._sites:
            return ""
        left = expected - self._elapsed()
        return f", about {left:.0f} s left" if left > 0 else ", longer than expected"

    def finished(self, results: Path) -> None:
        """Say that all is written."""
        self._line(f"results in {results}")
