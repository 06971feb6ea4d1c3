"""A site that neither has data nor computes: what is left is FLARE, so that one machine carries many of them."""

from __future__ import annotations

import os

import torch
from fedgram import __version__
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.core.gram import cosine_gram
from fedgram.flare import wire
from fedgram.model.peft_checkpoint import PREFIX
from fedgram.records import WIRE_DTYPE, ModelSpec, SiteEvaluation, SiteIntroduction, SiteUpdate
from nvflare.apis.event_type import EventType
from nvflare.apis.executor import Executor
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs

WIDTH = "FEDGRAM_TEST_WIDTH"  # in the environment: of each of the layers
LAYERS, WEIGHT = 12, 1e-3


class LightExecutor(Executor):
    """Every reply is made up at once, in FLARE's own process, and passes the contract."""

    def __init__(self, modality: str):
        super().__init__()
        self.modality = modality

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        if event_type == EventType.START_RUN:
            fobs.register(TensorDecomposer)

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        task = FLModelUtils.from_shareable(shareable)
        job = from_dict(JobConfig, (task.meta or {})["job"], "task")
        made = _reply(task_name, str(fl_ctx.get_identity_name()), self.modality, job, task.current_round or 0)
        return FLModelUtils.to_shareable(wire.encode_reply(made))


def _reply(
    task: str, site: str, modality: str, job: JobConfig, round: int
) -> SiteIntroduction | SiteUpdate | SiteEvaluation:
    width, rank, slots = int(os.environ[WIDTH]), job.adapter.rank, tuple(range(job.anchors.slots))
    names = [f"{PREFIX}layer.{number}" for number in range(LAYERS)]
    gram = cosine_gram(torch.randn(len(slots), 16, generator=torch.Generator().manual_seed(0)))
    if task == wire.INTRODUCE:
        return SiteIntroduction(
            site=site,
            version=__version__,
            anchors_sha256=job.anchors.sha256,
            spec=ModelSpec(shapes=dict.fromkeys(names, (width, rank, width)), backbone="b" * 64, width=width),
            gram=gram,
            slots=slots,
            samples=1,
            modality=modality,
        )
    if task == wire.TRAIN:
        return SiteUpdate(
            site=site,
            round=round + 1,
            anchors_sha256=job.anchors.sha256,
            delta_B={name: torch.full((width, rank), WEIGHT, dtype=WIRE_DTYPE) for name in names},
            m={},
            gram=gram,
            slots=slots,
            weight=1.0,
            samples=1,
        )
    return SiteEvaluation(site=site, metrics={}, gram=gram, slots=slots, heldout_slots=())
