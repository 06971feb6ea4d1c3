"""A site's part in one run: answers the server's tasks in any order that failures may bring about."""

from __future__ import annotations

from pathlib import Path

from fedgram.records import GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.sites import saved as result
from fedgram.sites.base import Participant
from fedgram.sites.state import forget_other_runs, load_before, restore, save_round, snapshot
from fedgram.training import local


class SiteSession:
    """Keeps a site's local state in step with the server's rounds, across restarts of either.

    After every round the local state is saved. When the server asks for a round that does not follow the one
    in memory (a restarted site, or a server that goes back to its last saved round), the state before that
    round is loaded, so that an interrupted run gives the same result as an uninterrupted one.

    Args:
        site: the opened site.
        folder: the site's own state and results.
    """

    def __init__(self, site: Participant, folder: Path):
        self.site, self._folder = site, folder
        self._position: tuple[str, int] | None = None  # run, and the last round trained in memory

    def introduce(self) -> SiteIntroduction:
        """Round 0."""
        return local.introduce(self.site)

    def train(self, run: str, state: GlobalState) -> SiteUpdate:
        """One local round; the state it leaves is on disk before the reply is."""
        self._step_back_to(run, state.round)
        update = local.local_round(self.site, state)
        save_round(self._run_folder(run), update.round, snapshot(self.site.model, self.site.optimizer))
        self._position = (run, update.round)
        return update

    def alone(self) -> SiteEvaluation:
        """Training alone, for the report; its model is kept under ``alone``, and the site is as new afterwards."""
        self._position = None
        local.train_alone(self.site)
        evaluation = local.evaluation(self.site)
        result.save(self.site, self._folder / "alone", evaluation.metrics)
        local.reset(self.site)
        return evaluation

    def evaluate(self, run: str, state: GlobalState) -> SiteEvaluation:
        """Evaluate the global model and write what the site keeps."""
        self._step_back_to(run, state.round)
        local.adopt(self.site, state)
        evaluation = local.evaluation(self.site)
        result.save(self.site, self._folder / "result", evaluation.metrics)
        return evaluation

    def _step_back_to(self, run: str, round: int) -> None:
        """Have in memory the local state after the last round up to ``round`` that this site trained."""
        if self._position is not None and self._position[0] == run and self._position[1] <= round:
            return
        forget_other_runs(self._folder, run)
        saved = load_before(self._run_folder(run), round + 1)
        restore(self.site.model, self.site.optimizer, self.site.initial if saved is None else saved)
        self._position = (run, round)

    def _run_folder(self, run: str) -> Path:
        return self._folder / f"run-{run}"
