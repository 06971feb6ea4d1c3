"""A site that holds its reply back until the test lets it go on: nothing then depends on who is faster."""

from __future__ import annotations

import time
from pathlib import Path

from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from fedgram.training.masked.messages import MASKED
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal

CLOSED = "closed.gate"  # in the site's kit: while this file is there, no training begins


class GatedExecutor(SiteExecutor):
    """An honest site with a gate before every round."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        gate = Path(wire.workspace_of(fl_ctx).get_root_dir(), CLOSED)
        while task_name in (wire.TRAIN, MASKED) and gate.exists() and not abort_signal.triggered:
            time.sleep(0.05)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)
