"""The site's side of the FLARE job: thin Executors over a supervised training process.

They run in FLARE's job process at the site and load neither data nor models: see
:mod:`fedgram.flare.process.supervisor`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.widgets.streaming import create_analytic_dxo, send_analytic_dxo
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs
from nvflare.fuel.utils.fobs import FOBSContextKey

from fedgram.flare import ledger, wire
from fedgram.flare.process.supervisor import Stopped, Supervisor, WorkerFailed
from fedgram.records import SiteUpdate
from fedgram.training.masked.messages import MASKED, PHASES, MaskedUpdate


class SiteExecutor(Executor):
    """An executor that answers the controller's tasks with what the site's training process computes.

    The job only names the modality. Where the data are is read from the site's own file:
    ``local/fedgram/<site>.toml``, else ``local/fedgram.toml``, in the site's workspace.

    The text of an error stays in ``fedgram/<site>/log.txt`` of the site's workspace: FLARE may stream its own log
    to the server. ``sent.jsonl`` beside it records every message that leaves.

    Args:
        modality: must be the one that the site file declares.
    """

    def __init__(self, modality: str):
        super().__init__()
        self.modality = modality
        self._supervisor: Supervisor | None = None

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Register tensors with FLARE's serialiser before the first travels; end the worker with the job."""
        if event_type == EventType.START_RUN:
            fobs.register(TensorDecomposer)
            _ask_again_soon(fl_ctx)
        elif event_type == EventType.END_RUN and self._supervisor is not None:
            self._supervisor.close()

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        """Run one task; an error becomes an error reply that names its kind, its text stays at the site."""
        if task_name not in wire.TASKS:
            return make_reply(ReturnCode.TASK_UNKNOWN)
        sent = _folder(fl_ctx) / _name(fl_ctx) / "sent.jsonl"
        try:
            task = FLModelUtils.from_shareable(shareable)
            reply = self._answer(task_name, task, fl_ctx, abort_signal)
            ledger.record(sent, task_name, reply)
        except Stopped:
            return make_reply(ReturnCode.TASK_ABORTED)
        except Exception as error:
            kind = error.kind if isinstance(error, WorkerFailed) else type(error).__name__
            where = f"fedgram/{sent.parent.name}/log.txt in this site's workspace"
            self.log_error(fl_ctx, f"task {task_name!r} failed with {kind}: see {where}", fire_event=False)
            with suppress(OSError):  # a full disk must not keep the site from saying so
                ledger.record(sent, task_name, kind)
            return _error_reply(kind)
        self._stream_metrics(task, reply, fl_ctx)
        return FLModelUtils.to_shareable(reply)

    def _answer(self, task_name: str, task: FLModel, fl_ctx: FLContext, abort_signal: Signal) -> FLModel:
        site = self._supervisor or self._supervise(task, fl_ctx)

        def ask(request: str, *arguments: object) -> Any:
            return site.ask(request, *arguments, stopped=lambda: abort_signal.triggered)

        if task_name == wire.INTRODUCE:
            return wire.encode_reply(ask("introduce"))
        if task_name in PHASES:
            return self._answer_phase(task_name, task, ask)
        run, state = wire.decode_state(task)
        if task_name == wire.ALONE:
            return wire.encode_reply(ask("alone", run))
        if task_name == wire.EVALUATE:
            return wire.encode_reply(ask("evaluate", run, state))
        if task_name == wire.SETTLE:
            return wire.encode_reply(ask("settle", run, state, wire.decode_directory(task, len(state.consensus))))
        before = self._restarts
        update: SiteUpdate = ask("train", run, state)
        return wire.encode_reply(replace(update, restarts=self._restarts - before))

    def _answer_phase(self, phase: str, task: FLModel, ask: Callable[..., Any]) -> FLModel:
        """Answer a phase of a masked sum."""
        call = wire.decode_call(task)
        if phase != MASKED:
            return wire.encode_reply(ask(phase, call))
        before = self._restarts
        update: MaskedUpdate = ask(phase, call, wire.decode_masked_state(task))
        return wire.encode_reply(replace(update, restarts=self._restarts - before))

    @property
    def _restarts(self) -> int:
        return self._supervisor.restarts if self._supervisor is not None else 0

    def _supervise(self, task: FLModel, fl_ctx: FLContext) -> Supervisor:
        local = Path(wire.workspace_of(fl_ctx).get_site_config_dir())
        job = (task.meta or {})["job"]
        self._supervisor = Supervisor(_name(fl_ctx), local, _folder(fl_ctx), self.modality, job)
        return self._supervisor

    def _stream_metrics(self, task: FLModel, reply: FLModel, fl_ctx: FLContext) -> None:
        """Send the numbers of a round's reply once more, as live events for the server's trackers.

        No filter sees these: what the gate would keep is not sent here either.
        """
        if "metrics" not in reply.meta or "round" not in reply.meta:
            return
        for name, value in reply.meta["metrics"].items():
            if name not in task.meta["job"]["metrics"] or not math.isfinite(value):
                continue
            dxo = create_analytic_dxo(name, value, AnalyticsDataType.SCALAR, global_step=reply.meta["round"])
            send_analytic_dxo(self, dxo, fl_ctx)


def _ask_again_soon(fl_ctx: FLContext) -> None:
    """Take a request for a task, or for a piece of one, for lost after :data:`wire.LOST_SECONDS`.

    FLARE 2.9.0 waits five minutes for a task and ten for a piece, while the site seems to be at work. For a
    submission its five minutes stay: the server answers that only when it has read and added all of it.
    """
    engine: Any = fl_ctx.get_engine()
    runner: Any = fl_ctx.get_prop(FLContextKey.RUNNER)
    communicator = engine.client.communicator
    runner.submit_task_result_timeout = runner.submit_task_result_timeout or communicator.timeout
    communicator.timeout = min(communicator.timeout, wire.LOST_SECONDS)
    engine.get_cell().update_fobs_context({FOBSContextKey.DOWNLOAD_REQ_TIMEOUT: wire.LOST_SECONDS})


def _name(fl_ctx: FLContext) -> str:
    return str(fl_ctx.get_identity_name())


def _folder(fl_ctx: FLContext) -> Path:
    """The folder of fedgram in this participant's workspace."""
    return Path(wire.workspace_of(fl_ctx).get_root_dir(), "fedgram")


def _error_reply(kind: str) -> Shareable:
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION)
    reply.set_header(wire.ERROR_HEADER, kind)
    return reply


# FLARE calls what a component's path names, with its arguments.
ImageExecutor = partial(SiteExecutor, "image")
TextExecutor = partial(SiteExecutor, "text")
GenomicsExecutor = partial(SiteExecutor, "genomics")
TabularExecutor = partial(SiteExecutor, "tabular")
