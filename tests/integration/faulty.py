"""A site that breaks another clause of the contract in every round; used by the simulator tests."""

from __future__ import annotations

import time

import torch
from fedgram.errors import DataError
from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils


def _first_delta(model: FLModel) -> str:
    return next(name for name in model.params if name.startswith("delta_B/"))


def _nan(model: FLModel) -> None:
    model.params[_first_delta(model)][0, 0] = float("nan")


def _shape(model: FLModel) -> None:
    model.params[_first_delta(model)] = torch.zeros(3, dtype=torch.bfloat16)


def _names(model: FLModel) -> None:
    model.params["delta_B/backdoor"] = model.params.pop(_first_delta(model))


def _norm(model: FLModel) -> None:
    model.params[_first_delta(model)].fill_(1e5)


def _asymmetric(model: FLModel) -> None:
    model.params["gram"][0, 1] += 0.5


def _range(model: FLModel) -> None:
    model.params["gram"][0, 1] = model.params["gram"][1, 0] = -3.0


def _anchors(model: FLModel) -> None:
    model.meta["anchors_sha256"] = "e" * 64


def _garbage(model: FLModel) -> None:
    model.params["gram"] = "not a tensor"


def _leak(model: FLModel) -> None:
    model.params["embeddings"] = torch.zeros(4, 8)


def _weight(model: FLModel) -> None:
    model.meta["weight"] = 1e9


def _crash(model: FLModel) -> None:
    raise ValueError("the name of patient 7")


def _slow(model: FLModel) -> None:
    time.sleep(40)  # beyond the deadline of the test's job


FAULTS = {
    "NaN": (_nan, "not finite"),
    "a wrong shape": (_shape, "torch.bfloat16 torch.Size([3])"),
    "wrong names": (_names, "layer names differ"),
    "a huge norm": (_norm, "update of norm"),
    "an asymmetric Gram": (_asymmetric, "not symmetric"),
    "a Gram out of range": (_range, "outside [-1, 1]"),
    "another anchor set": (_anchors, "anchor set eeee"),
    "garbage": (_garbage, "gram: str"),
    "more than the contract": (_leak, "unknown parts ['embeddings']"),
    "an absurd weight": (_weight, "weight 1000000000.0"),
    "an exception": (_crash, "answered with EXECUTION_EXCEPTION"),
    "silence": (_slow, None),
}


class FaultyExecutor(SiteExecutor):
    """Honest but for what it sends: an error for its first introduction, then a fault of FAULTS in each round.

    A site that has not introduced itself is asked again in the first round, and trains from the second on.
    """

    _asked = False

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        reply = super().execute(task_name, shareable, fl_ctx, abort_signal)
        if task_name != wire.TRAIN:
            return reply
        model = FLModelUtils.from_shareable(reply)
        list(FAULTS.values())[FLModelUtils.from_shareable(shareable).current_round - 1][0](model)
        return FLModelUtils.to_shareable(model)

    def _answer(self, task_name: str, task: FLModel, fl_ctx: FLContext, abort_signal: Signal) -> FLModel:
        if task_name == wire.INTRODUCE and not self._asked:
            self._asked = True
            raise DataError("an unreadable file", where="row 7")
        return super()._answer(task_name, task, fl_ctx, abort_signal)
