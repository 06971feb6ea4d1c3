"""A site whose executor sends more than the contract lists."""

from __future__ import annotations

import torch
from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils

TEXT = "Zaphod-Beeblebrox-1952"


def _embeddings(model: FLModel) -> None:
    model.params["embeddings"] = torch.zeros(4, 8)


def _layer(model: FLModel) -> None:
    model.params[f"delta_B/{TEXT}"] = torch.zeros(1000, 1000, dtype=torch.bfloat16)


def _metric(model: FLModel) -> None:
    model.meta["metrics"] = {f"note: {TEXT}": 1.0}


def _note(model: FLModel) -> None:
    model.meta["metrics"] = {"loss": TEXT}


LEAKS = (_embeddings, _layer, _metric, _note)


class LeakyExecutor(SiteExecutor):
    """Honest, but for something of its own in every round, another in each."""

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        reply = super().execute(task_name, shareable, fl_ctx, abort_signal)
        if task_name == wire.TRAIN:
            model = FLModelUtils.from_shareable(reply)
            LEAKS[(model.meta["round"] - 1) % len(LEAKS)](model)
            reply = FLModelUtils.to_shareable(model)
        return reply
