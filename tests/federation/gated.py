"""A site that holds its reply back until the test lets it go on: nothing then depends on who is faster."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from fedgram.training.masked.messages import MASKED
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

CLOSED = "closed.gate"  # in the site's kit: while it is there, no training begins; a masked one from its number on


class GatedExecutor(SiteExecutor):
    """An honest site with a gate before every round."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        gate = Path(wire.workspace_of(fl_ctx).get_root_dir(), CLOSED)
        masked = task_name == MASKED
        round = wire.decode_call(FLModelUtils.from_shareable(shareable)).round if masked else 0
        while (masked or task_name == wire.TRAIN) and _is_closed(gate, round) and not abort_signal.triggered:
            time.sleep(0.05)
        return super().execute(task_name, shareable, fl_ctx, abort_signal)


def _is_closed(gate: Path, round: int) -> bool:
    with suppress(FileNotFoundError):  # it is opened at any time
        return round >= int(gate.read_text() or 0)
    return False
