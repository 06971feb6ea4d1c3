"""A site that is killed in every phase of a masked sum, right after it has answered, and is asked again."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from fedgram.training.masked.messages import MASKED, PHASES
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils


class MortalExecutor(SiteExecutor):
    """In round r the process that trains is killed in phase r: what it says then is what it had said before."""

    def _answer_phase(self, phase: str, task: FLModel, ask: Callable[..., Any]) -> FLModel:
        first = super()._answer_phase(phase, task, ask)
        if wire.decode_call(task).round != PHASES.index(phase) + 1:
            return first
        supervisor = self._supervisor
        assert supervisor is not None
        assert supervisor._process is not None
        os.kill(supervisor._process.pid, signal.SIGKILL)
        again = super()._answer_phase(phase, task, ask)
        if phase == MASKED:
            assert all(torch.equal(value, again.params[name]) for name, value in first.params.items())
        return again


class FallingExecutor(SiteExecutor):
    """In round r FLARE's own process at the site is killed in phase r, before it answers, once for each."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        mark = Path(wire.workspace_of(fl_ctx).get_root_dir(), f"fell-{task_name}")
        if task_name in PHASES and not mark.exists():
            call = wire.decode_call(FLModelUtils.from_shareable(shareable))
            if call.round == PHASES.index(task_name) + 1:
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)
