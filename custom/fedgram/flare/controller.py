"""The server's side of the FLARE job: rounds over ``fedgram.training.server``, and failures kept in check."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nvflare.apis.client import Client
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.workflows.model_controller import ModelController
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

from fedgram.config.job import JobConfig
from fedgram.config.server import read_server_config
from fedgram.config.strict import from_dict
from fedgram.core.directory import MOST_CONCEPTS, Directory
from fedgram.errors import FedgramError, RoundFailed
from fedgram.flare import rejoin, wire
from fedgram.flare.masked import Receive, Refuse, Transport, asking
from fedgram.flare.progress import ABORTED, Progress, ending
from fedgram.flare.shield import vetting
from fedgram.flare.shield.guard import Guard
from fedgram.methods import require_allowed_at_server
from fedgram.records import GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.results import report
from fedgram.training import contracts
from fedgram.training.admission import admit, forget
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.directory import merged
from fedgram.training.groups import most_shared
from fedgram.training.masked.gathering import Ask
from fedgram.training.masked.identity import Verifier, find_authority
from fedgram.training.masked.rounds import first_consensus, masked_round
from fedgram.training.outcome import Outcome
from fedgram.training.server import Round, ServerState, agree, require_enough

_POLL_SECONDS = 0.02


class GramController(ModelController):
    """Gram consensus and precision-weighted aggregation of the sites' low-rank updates.

    Every reply is added on arrival and then forgotten. A site that answers with an error, with garbage or not
    at all is named in the log and the report, and the round goes on without it as long as ``min_sites`` count.
    The state is saved after every round; a job with the same settings that finds it continues there.

    Args:
        job: the settings of :class:`~fedgram.config.job.JobConfig`.
        fresh: once for every value of it, what was saved of such a job is forgotten.
    """

    fl_ctx: FLContext  # pyrefly: ignore[bad-override-mutable-attribute]  # FLARE sets both before it calls run
    abort_signal: Signal  # pyrefly: ignore[bad-override-mutable-attribute]

    def __init__(self, job: dict[str, Any], fresh: str = ""):
        super().__init__(persistor_id="", ignore_result_error=True)
        self.job, self.fresh = job, fresh
        self._on_error: Callable[[str, str], None] = lambda site, reason: None

    def run(self) -> None:
        """Run the job, and say in the log why it ended if it did."""
        try:
            self._run()
        except Exception as error:
            self.error(ending(error))
            raise

    def _run(self) -> None:
        """Run the job: round 0, the rounds, training alone, evaluation, the sites' choice, report."""
        fobs.register(TensorDecomposer)
        rejoin.accept_returning_sites(self.fl_ctx)
        # FLARE 2.9.0 sets another attribute than it reads; without this a round idles half a second.
        setattr(self.communicator, "_task_check_period", _POLL_SECONDS)  # noqa: B010 - private, and not typed
        job = from_dict(JobConfig, self.job, "config_fed_server.json: job")
        self._guard = Guard(self.engine, self.abort_signal, job.metrics)
        workspace = wire.workspace_of(self.fl_ctx)
        path = Path(workspace.get_site_config_dir(), "fedgram", "server.toml")
        require_allowed_at_server(path, read_server_config(path), job)
        saved = Checkpoint(rejoin.states_of(workspace) / job.fingerprint()[:16], job)
        progress = Progress(job, self.info)
        self._take_turn(saved, progress)
        if self.fresh:
            saved.forget(self.fresh)
        results = Path(workspace.get_run_dir(str(self.fl_ctx.get_job_id()))) / "fedgram"
        state = saved.load()
        state = self._introduce(job, progress) if state is None else self._resume(state, job, progress)
        progress.started(state)
        while state.state.round < job.training.rounds:
            state = self._round(state, job, progress)
            saved.save(state)
            progress.round_done(state.records[-1])
            report.write_server_files(results, state, job)
        alone = self._evaluations(wire.ALONE, state, job, progress) if job.baseline else {}
        together = self._evaluations(wire.EVALUATE, state, job, progress)
        directory = merged(together, state.modalities, job)
        kept = self._evaluations(wire.SETTLE, state, job, progress, directory)
        outcome = Outcome(server=state, together=together, alone=alone, kept=kept, directory=directory)
        report.write(results, outcome, job)
        rejoin.complete(saved, workspace, str(self.fl_ctx.get_job_id()))
        progress.finished(results)

    def _take_turn(self, saved: Checkpoint, progress: Progress) -> None:
        """Wait until no other job with the same settings runs, as when two people have submitted one."""
        if not saved.claim():
            progress.noted(["another job with the same settings runs: this one begins when that one has ended"])
            while not saved.claim():
                self._pause("before round 0")

    def _introduce(self, job: JobConfig, progress: Progress) -> ServerState:
        replies, receive = _introductions(progress)
        sites, seconds = self._sites(), job.aggregation.setup_seconds
        with self._guard.task(vetting.reply_limit(job)):
            self._ask(wire.INTRODUCE, wire.encode_task(job), sites, seconds, receive, progress.rejected)
        state = progress.taken_in(agree(replies.values(), job))
        if not job.aggregation.masked:
            return state
        return first_consensus(state, job, self._asking(job, progress), self._authority())

    def _resume(self, state: ServerState, job: JobConfig, progress: Progress) -> ServerState:
        """Ask all sites once more who they are: what they run may have changed since the state was saved."""
        replies, receive = _introductions(progress)
        sites, seconds = self._sites(state.refused), job.aggregation.setup_seconds  # they read their data again
        with self._guard.task(vetting.reply_limit(job)):
            self._ask(wire.INTRODUCE, wire.encode_task(job), sites, seconds, receive, progress.rejected)
        return progress.taken_in(admit(forget(state), replies.values(), job))

    def _round(self, state: ServerState, job: JobConfig, progress: Progress) -> ServerState:
        connected = self._sites(state.refused)
        sites = [site for site in connected if site in state.modalities]
        newcomers = [site for site in connected if site not in state.modalities]
        replies, introduced = _introductions(progress)

        def greet() -> None:  # newcomers, who take part in the next round and hold nobody up but to its deadline
            if newcomers:
                hello, seconds = wire.encode_task(job), job.aggregation.deadline_seconds
                self._send(wire.INTRODUCE, hello, newcomers, seconds, introduced, progress.rejected)

        if job.aggregation.masked:
            ask = self._asking(job, progress, state.state, greet)
            after = masked_round(state, job, sites, ask, self._authority())
            progress.noted(after.notes[len(state.notes) :])
            return progress.taken_in(admit(after, replies.values(), job))
        current = Round(state, job, sites)

        def receive(site: str, model: FLModel) -> None:
            update = wire.decode_reply(SiteUpdate, site, model)
            current.add(update)
            progress.replied(update)

        def refuse(site: str, reason: str) -> None:
            current.reject(site, reason)
            progress.rejected(site, reason)

        task = wire.encode_task(job, state.run, state.state)
        shared = most_shared(state.groups, state.state.shared)
        limit, seconds = vetting.reply_limit(job, state.spec, shared=shared), job.aggregation.deadline_seconds
        with self._guard.task(max(limit, vetting.reply_limit(job)) if newcomers else limit):
            greet()
            self._ask(wire.TRAIN, task, sites, seconds, receive, refuse)
        return progress.taken_in(admit(current.close(), replies.values(), job))

    def _evaluations(
        self,
        task: str,
        state: ServerState,
        job: JobConfig,
        progress: Progress,
        directory: Directory | None = None,
    ) -> dict[str, SiteEvaluation]:
        replies: dict[str, SiteEvaluation] = {}

        def receive(site: str, model: FLModel) -> None:
            reply = wire.decode_reply(SiteEvaluation, site, model)
            contracts.check_evaluation(reply, job)
            replies[site] = reply
            progress.answered(site)

        data = wire.encode_task(job, state.run, state.state, directory)
        sites = [site for site in self._sites(state.refused) if site in state.modalities]
        progress.stage(task, len(sites))
        with self._guard.task(vetting.reply_limit(job, concepts=MOST_CONCEPTS * (task == wire.EVALUATE))):
            self._ask(
                task, data, sites, job.aggregation.setup_seconds, receive, progress.rejected, progress.waiting
            )
        require_enough(len(replies), job, task)  # else the state would be gone, and no site have a result
        return dict(sorted(replies.items()))

    def _ask(
        self,
        task: str,
        data: FLModel,
        sites: list[str],
        seconds: int,
        receive: Receive,
        refuse: Refuse,
        waiting: Callable[[], object] = lambda: None,
    ) -> None:
        """Send a task to some sites and handle each reply as it comes, until all have answered or time is up.

        Raises:
            RoundFailed: the job was aborted.
        """
        self._on_error = refuse
        self._send(task, data, sites, seconds, receive, refuse)
        self._wait(task, waiting)

    def _wait(self, task: str, waiting: Callable[[], object] = lambda: None) -> None:
        """Wait until all have answered or time is up.

        Raises:
            RoundFailed: the job was aborted.
        """
        while self.get_num_standing_tasks():
            waiting()
            self._pause(task)

    def _pause(self, where: str) -> None:
        if self.abort_signal.triggered:
            raise RoundFailed(ABORTED, where=where)
        time.sleep(_POLL_SECONDS)

    def _authority(self) -> Verifier:
        return find_authority(Path(wire.workspace_of(self.fl_ctx).get_startup_kit_dir()))

    def _asking(
        self,
        job: JobConfig,
        progress: Progress,
        state: GlobalState | None = None,
        greet: Callable[[], object] = lambda: None,
    ) -> Ask:
        """A way to ask the sites for their parts in a masked sum; see :func:`fedgram.flare.masked.asking`."""

        def send(phase: str, task: FLModel, sites: list[str], receive: Receive, refuse: Refuse) -> None:
            self._on_error = refuse
            self._send(phase, task, sites, job.aggregation.deadline_seconds, receive, refuse)

        transport = Transport(send=send, wait=self._wait, allow=self._guard.task)
        return asking(transport, job, progress, state, greet)

    def _send(
        self, task: str, data: FLModel, sites: list[str], seconds: int, receive: Receive, refuse: Refuse
    ) -> None:
        """Send a task to some sites, and wait for nobody."""

        def callback(model: FLModel) -> Any:
            site = str((model.meta or {})["client_name"])
            try:
                receive(site, model)
            except FedgramError as error:
                refuse(site, str(error))
                return False
            except Exception as error:  # whatever a site sends, the job must outlive it
                refuse(site, f"{site}: unreadable reply ({type(error).__name__})")
                return False
            return True

        alive = [site for site in sites if self.get_client_disconnect_time(site) is None]
        if alive:  # FLARE takes an empty list for all sites, and would wait for the dead ones
            self.broadcast_model(
                task_name=task, data=data, targets=alive, timeout=seconds, blocking=False, callback=callback
            )

    def _sites(self, refused: tuple[str, ...] = ()) -> list[str]:
        engine: Any = self.fl_ctx.get_engine()
        connected = {client.name for client in engine.get_clients()}
        return sorted(connected - set(refused))

    def _accept_train_result(
        self, client_name: str, result: Shareable, fl_ctx: FLContext, is_unknown_task: bool = False
    ) -> bool:
        """Note an error reply, which never reaches the callback: FLARE calls this before it."""
        accepted = super()._accept_train_result(client_name, result, fl_ctx, is_unknown_task)
        if not accepted and not is_unknown_task:
            self._on_error(client_name, vetting.reason_of(client_name, result))
        return accepted

    def process_result_of_unknown_task(
        self, client: Client, task_name: str, client_task_id: str, result: Shareable, fl_ctx: FLContext
    ) -> None:
        """Drop a reply that comes after the deadline, and say so."""
        self.warning(f"{client.name}: reply to {task_name!r} came after its deadline and does not count")


def _introductions(progress: Progress) -> tuple[dict[str, SiteIntroduction], Receive]:
    """A mapping by site, and what puts an introduction there when it comes."""
    replies: dict[str, SiteIntroduction] = {}

    def receive(site: str, model: FLModel) -> None:
        replies[site] = wire.decode_reply(SiteIntroduction, site, model)
        progress.introduced(replies[site])

    return replies, receive
