"""A site's part in one run: answers the server's tasks in any order that failures may bring about."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from fedgram.errors import CheckpointError
from fedgram.files import write_tensors
from fedgram.records import GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.sites.base import Site
from fedgram.sites.state import restore, snapshot
from fedgram.training import rounds

_KEPT_ROUNDS = 2  # a server that restarts may ask for the round that a site has already done


class SiteSession:
    """Keeps a site's local state in step with the server's rounds, across restarts of either.

    After every round the local state is saved. When the server asks for a round that does not follow the one
    in memory (a restarted site, or a server that goes back to its last saved round), the state before that
    round is loaded, so that an interrupted run gives the same result as an uninterrupted one.

    Args:
        site: the opened site.
        folder: the site's own state and results.
    """

    def __init__(self, site: Site, folder: Path):
        self.site, self._folder = site, folder
        self._position: tuple[str, int] | None = None  # run, and the last round trained in memory

    def introduce(self) -> SiteIntroduction:
        """Answer round 0."""
        return rounds.introduce(self.site)

    def train(self, run: str, state: GlobalState) -> SiteUpdate:
        """Train one local round; the state it leaves is on disk before the reply is sent."""
        self._step_back_to(run, state.round)
        update = rounds.local_round(self.site, state)
        save_round(self._run_folder(run), update.round, snapshot(self.site.model, self.site.optimizer))
        self._position = (run, update.round)
        return update

    def alone(self) -> SiteEvaluation:
        """Train alone, for the report; the model is kept under ``alone``, and the site is as new afterwards."""
        self._position = None
        rounds.train_alone(self.site)
        evaluation = rounds.evaluation(self.site)
        self.site.save(self._folder / "alone", evaluation.metrics)
        rounds.reset(self.site)
        return evaluation

    def evaluate(self, run: str, state: GlobalState) -> SiteEvaluation:
        """Evaluate the global model and write what the site keeps."""
        self._step_back_to(run, state.round)
        rounds.adopt(self.site, state)
        evaluation = rounds.evaluation(self.site)
        self.site.save(self._folder / "result", evaluation.metrics)
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


def save_round(folder: Path, round: int, tensors: Mapping[str, Tensor]) -> None:
    """Keep the state after a round; the last two stay."""
    write_tensors(folder / f"round-{round:05d}.safetensors", tensors)
    for old in sorted(folder.glob("round-*.safetensors"))[:-_KEPT_ROUNDS]:
        old.unlink()


def load_before(folder: Path, round: int) -> dict[str, Tensor] | None:
    """The latest state of a round before ``round``, or None when the site has not trained before it.

    Raises:
        CheckpointError: the file is damaged.
    """
    earlier = [p for p in sorted(folder.glob("round-*.safetensors")) if int(p.stem.removeprefix("round-")) < round]
    if not earlier:
        return None
    try:
        return load_file(earlier[-1])
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"damaged ({error})", where=earlier[-1], remedy="delete it: the site goes on from the state before it"
        ) from error


def forget_other_runs(folder: Path, run: str) -> None:
    """Remove the round states of earlier runs in a site's state folder."""
    for other in folder.glob("run-*"):
        if other.name != f"run-{run}":
            shutil.rmtree(other, ignore_errors=True)
