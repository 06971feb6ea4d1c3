"""A site whose executor sends more than the contract lists."""

from __future__ import annotations

import torch
from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.utils.fl_model_utils import FLModelUtils


class LeakyExecutor(SiteExecutor):
    """Honest, but for a tensor of its own in every round."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        reply = super().execute(task_name, shareable, fl_ctx, abort_signal)
        if task_name == wire.TRAIN:
            model = FLModelUtils.from_shareable(reply)
            model.params["embeddings"] = torch.zeros(4, 8)
            reply = FLModelUtils.to_shareable(model)
        return reply
