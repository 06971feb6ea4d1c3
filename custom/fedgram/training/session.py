"""A site's part in one run: answers the server's tasks in any order that failures may bring about."""

from __future__ import annotations

import dataclasses
import fcntl
import logging
import math
import os
import shutil
import weakref
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from fedgram.core.directory import Directory
from fedgram.errors import MaskRefused
from fedgram.files import read_tensors, write_tensors
from fedgram.records import GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.sites.base import Site
from fedgram.sites.budget import Budget
from fedgram.sites.draws import require_secret
from fedgram.sites.kept import restore_kept, trained_state
from fedgram.sites.runs import run_name
from fedgram.sites.state import restore, snapshot
from fedgram.training import rounds
from fedgram.training.directory import published
from fedgram.training.masked.identity import Identity, Unsigned
from fedgram.training.masked.member import Member
from fedgram.training.masked.memory import Memory
from fedgram.training.masked.messages import (
    Confirmation,
    MaskedUpdate,
    RevealedShares,
    SiteKeys,
    SiteShares,
    SumCall,
)
from fedgram.training.masked.values import masked_values
from fedgram.training.saved_rounds import load_before, locked, prune_runs, save_round
from fedgram.training.settle import settle

log = logging.getLogger("fedgram.site")

_REMEDY = "delete it: the best of the rounds from now on is kept instead"


class SiteSession:
    """Keeps a site's local state in step with the server's rounds, across restarts of either.

    After every round the local state is saved. When the server asks for a round that does not follow the one
    in memory (a restarted site, or a server that goes back to its last saved round), the state before that
    round is loaded, so that an interrupted run gives the same result as an uninterrupted one.

    Args:
        site: the opened site.
        folder: the site's own state and results.
        identity: by which it signs in a masked job; unsigned when absent.
        regression: whether the regression on frozen tokens may be a part of what the site keeps.
    """

    def __init__(self, site: Site, folder: Path, identity: Identity | None = None, *, regression: bool = True):
        self.site, self._folder, self._regression = site, folder, regression
        self._member = Member(
            name=site.name,
            secret=site.config.secret or "",
            job=site.job.fingerprint(),
            seed=site.job.seed,
            anchors=site.job.anchors.slots,
            slots=site.anchors.slots,
            identity=identity or Unsigned(),
            memory=Memory(folder),
        )
        self._position: tuple[str, int] | None = None  # run, and the last round trained in memory
        self._lowest: dict[str, float] = {}  # validation loss of a round's global model, by run
        self._used = ""  # the run whose folder is kept from being pruned
        self._budget = None
        if (privacy := site.config.privacy) is not None:
            require_secret(site.name, site.config)
            self._budget = Budget(site.name, folder, privacy)

    def introduce(self) -> SiteIntroduction:
        """Answer round 0, with the model as it was opened, whatever it was trained to in between."""
        self._position = None
        rounds.reset(self.site)
        return rounds.introduce(self.site)

    def train(self, run: str, state: GlobalState) -> SiteUpdate:
        """Train one local round; the state it leaves is on disk before the reply is sent.

        Raises:
            MaskRefused: the job is masked: no update goes by itself.
        """
        if self.site.job.aggregation.masked:
            raise MaskRefused("an update without masks", where=self.site.name, expected="a masked sum")
        return self._train(run, state)

    def mask_keys(self, call: SumCall) -> SiteKeys:
        """Answer the first phase of a masked sum."""
        return self._member.keys(call)

    def mask_shares(self, call: SumCall) -> SiteShares:
        """Answer the second phase of a masked sum."""
        return self._member.shares(call)

    def masked(self, call: SumCall, state: GlobalState | None = None) -> MaskedUpdate:
        """Answer the third phase: G of the untrained model before the first round, else a round of training."""
        if state is None:
            self._position = None
        return self._member.mask(call, masked_values(self.site, self._member, call, state, self._train))

    def confirm(self, call: SumCall) -> Confirmation:
        """Answer the fourth phase of a masked sum."""
        return self._member.confirm(call)

    def reveal(self, call: SumCall) -> RevealedShares:
        """Answer the last phase of a masked sum."""
        return self._member.reveal(call)

    def _train(self, run: str, state: GlobalState) -> SiteUpdate:
        self._step_back_to(run, state.round)
        self._position = None  # until the round is whole
        update = rounds.local_round(
            self.site, state, lambda: self._keep_if_best(run, state.round), lambda start: self._charge(run, start)
        )
        save_round(self._run_folder(run), update.round, snapshot(self.site.model, self.site.optimizer))
        self._position = (run, update.round)
        return update

    def alone(self, run: str) -> SiteEvaluation:
        """Train alone; the model is kept with the run and as ``alone``, and the site is as new afterwards.

        The answer also has the floors of the site, which no model of the site has a part in.
        """
        self._use(run)
        self._position = None
        try:
            rounds.train_alone(self.site)
            evaluation = self._keep(run, "alone")
        finally:  # nothing that follows is to be of this model
            rounds.reset(self.site)
        if self.site.guarantee is not None:  # what home has learnt stays here, its geometry too
            told = rounds.evaluation(self.site)
        else:
            told = dataclasses.replace(evaluation, metrics={**evaluation.metrics, **rounds.floors(self.site)})
        return rounds.withheld(self.site, told)

    def evaluate(self, run: str, state: GlobalState) -> SiteEvaluation:
        """Evaluate the global model, and keep it with the run and as the site's latest ``result``.

        It is that of the round with the lowest validation loss here, as for a site that trains alone.
        """
        self._step_back_to(run, state.round)
        rounds.adopt(self.site, state)
        self._keep_if_best(run, state.round)
        self._position = None  # of another round, perhaps, and no state to go on from
        if (best := self._best(run)).exists():
            restore_kept(self.site.model, self.site.optimizer, read_tensors(best, _REMEDY)[0], best)
        prototypes, gram = published(self.site)
        evaluation = dataclasses.replace(self._keep(run, "result"), prototypes=prototypes, token_gram=gram)
        return rounds.withheld(self.site, evaluation)

    def settle(self, run: str, state: GlobalState, directory: Directory | None = None) -> SiteEvaluation:
        """Choose what the site keeps, and complete its ``result`` by that.

        Models are read from the run's folder, whichever process has written them; one that is not there is made
        first.

        Args:
            directory: of concepts, as the server merged it.
        """
        self._use(run)
        folder = self._run_folder(run)
        if self.site.job.baseline and not _is_whole(folder / "alone"):
            self.alone(run)
        if not _is_whole(folder / "result"):
            self.evaluate(run, state)
        self._position = None
        home = folder / "alone" if self.site.job.baseline else None
        evaluation = settle(self.site, folder / "result", home, directory, regression=self._regression)
        self._publish("result", lambda new: shutil.copytree(folder / "result", new))
        return rounds.withheld(self.site, evaluation)

    def _charge(self, run: str, start: str) -> None:
        """Book a round, by what it starts from, where the site promises differential privacy."""
        if self._budget is not None and self.site.guarantee is not None:
            name = run_name(run, self.site.guarantee)
            self._budget.charge(name, self.site.guarantee, start, self.site.job.training.local_steps)

    def _keep_if_best(self, run: str, round: int) -> None:
        """Keep the global model after a round, as the site has it, if its validation loss is the lowest so far.

        A round that is done again finds that it is kept. Nothing is kept without validation samples, nor where
        these are not to choose what leaves: the last round's model it is there.
        """
        if self.site.guarantee is not None:
            return
        loss, best = self.site.validation_loss(), self._best(run)
        if loss is None:
            return
        if run not in self._lowest:
            self._lowest[run] = float(read_tensors(best, _REMEDY)[1]["loss"]) if best.exists() else math.inf
        if loss < self._lowest[run]:
            write_tensors(best, trained_state(self.site), {"round": str(round), "loss": repr(loss)})
            self._lowest[run] = loss

    def _keep(self, run: str, name: str) -> SiteEvaluation:
        """Evaluate the model as it is, and write it to the run's folder and as the site's latest of that name."""
        evaluation, own = rounds.evaluation(self.site), self._run_folder(run) / name
        self.site.save(own, evaluation.metrics, home=name == "alone")
        self._publish(name, lambda new: shutil.copytree(own, new))
        return evaluation

    def _publish(self, name: str, write: Callable[[Path], object]) -> None:
        """Put a folder in its place as a whole: of two jobs that do so, the later one's stays."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._folder, prefix=f".{name}-") as temporary:
            new, old, place = Path(temporary, "new"), Path(temporary, "old"), self._folder / name
            write(new)
            with locked(self._folder, fcntl.LOCK_EX):
                if place.exists():
                    os.replace(place, old)
                os.replace(new, place)

    def _step_back_to(self, run: str, round: int) -> None:
        """Have in memory the local state after the last round up to ``round`` that this site trained."""
        if self._position is not None and self._position[0] == run and self._position[1] <= round:
            return
        self._use(run)
        saved = load_before(self._run_folder(run), round + 1)
        if saved is None and round > 0:
            log.warning("%s: it begins as it was opened: it comes late, or its state was removed", self.site.name)
        restore(self.site.model, self.site.optimizer, self.site.initial if saved is None else saved)
        self._position = (run, round)

    def _use(self, run: str) -> None:
        """Keep a run's folder from being pruned while this session lives, and prune those of old runs."""
        if self._used == run:
            return
        held = ExitStack()
        held.enter_context(locked(self._run_folder(run), fcntl.LOCK_SH))
        weakref.finalize(self, held.close)
        os.utime(self._run_folder(run))
        self._used = run
        with locked(self._folder, fcntl.LOCK_EX):
            prune_runs(self._folder, self._run_folder(run))

    def _run_folder(self, run: str) -> Path:
        return self._folder / f"run-{run_name(run, self.site.guarantee)}"

    def _best(self, run: str) -> Path:
        return self._run_folder(run) / "best.safetensors"


def _is_whole(result: Path) -> bool:
    """Whether a model was kept there; its ``site.json`` is written last."""
    return (result / "site.json").is_file()
