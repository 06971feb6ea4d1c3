"""The site's own last gate, named in its ``local/privacy.json``: no job can take it out or change it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.site import Mode, find_site_config
from fedgram.config.strict import from_dict
from fedgram.errors import UpdateRejected
from fedgram.flare import outbound, wire
from fedgram.records import GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate, below
from fedgram.sites.guarantee import METRICS
from fedgram.training import contracts
from fedgram.training.codec import is_listed
from fedgram.training.masked.contracts import KINDS, check_answer
from fedgram.training.masked.messages import MASKED, PHASES

_TASK = "fedgram.task"  # property of FLARE's context: the task that is being answered
_WORD = re.compile(r"[\w.-]{1,200}", re.ASCII)  # a layer, a modality, a hash: nobody's sentence


class TheTask(Filter):
    """A filter of tasks that changes nothing: the gate compares the reply with what was asked."""

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Note a task before the job's executor has it."""
        fl_ctx.set_prop(_TASK, FLModelUtils.from_shareable(shareable), private=True, sticky=False)
        return shareable


class OnlyTheContract(Filter):
    """A filter that passes what :mod:`fedgram.flare.outbound` lists, and keeps any other reply at the site.

    The names, shapes, types and numbers must be those that the task calls for. The reply is written anew from the
    listed fields, so that nothing travels in FLARE's headers beside them.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Filter a task's result before it leaves; an error raised here becomes an error reply without text."""
        code = shareable.get_return_code()
        if code != ReturnCode.OK:
            reply, kind = make_reply(code), shareable.get_header(wire.ERROR_HEADER)
            if isinstance(kind, str) and kind.isidentifier():
                reply.set_header(wire.ERROR_HEADER, kind)
            return reply
        model = FLModelUtils.from_shareable(shareable)
        params, meta = model.params or {}, model.meta or {}
        site = str(fl_ctx.get_identity_name())
        config = find_site_config(Path(wire.workspace_of(fl_ctx).get_site_config_dir()), site)
        fields = [field for part in outbound.leaves(config.methods, config.share) for field in part.fields]
        unlisted = sorted(
            str(name)
            for name, value in (*params.items(), *meta.items())
            if not (is_listed(name, fields) or _is_nothing(name, value))
        )
        if unlisted:
            raise UpdateRejected(f"a reply with {unlisted} stays here", expected="what fedgram lists as outbound")
        if not all(type(value) is Tensor and value.is_contiguous() for value in params.values()):
            raise UpdateRejected("a reply that holds anything but plain tensors stays here")
        task = fl_ctx.get_prop(_TASK)
        if task is None:
            remedy = f"write local/privacy.json with {TheTask.__name__}, as provisioning does, then restart FLARE"
            raise UpdateRejected("a reply to a task that the gate has not seen stays here", remedy=remedy)
        _check(str(fl_ctx.get_prop(FLContextKey.TASK_NAME)), task, site, model, config.require)
        if config.privacy is not None:
            _check_private(site, meta)
        return FLModelUtils.to_shareable(
            FLModel(params_type=ParamsType.FULL, params=params, meta=meta, current_round=meta.get("round", 0))
        )


def _is_nothing(name: object, value: object) -> bool:
    """Whether this is a tensor that is empty where a site does not share it: a record has no gaps."""
    return name in outbound.CONCEPTS.fields and isinstance(value, Tensor) and value.numel() == 0


def _check(name: str, task: FLModel, site: str, model: FLModel, require: Collection[Mode]) -> None:
    """Raise UpdateRejected unless a reply has the names, shapes, types and numbers that its task calls for."""
    job = from_dict(JobConfig, (task.meta or {}).get("job", {}), "task: job")
    if "masked" in require and not job.aggregation.masked:
        raise UpdateRejected("a reply to a job that is not masked stays here", where=f"{site}: require")
    if (name == wire.TRAIN and job.aggregation.masked) or (name in PHASES and not job.aggregation.masked):
        raise UpdateRejected(f"a reply to task {name!r} stays here", expected="one of the job's own mode")
    if name in PHASES:
        answer = wire.decode_reply(KINDS[name], site, model)
        state = wire.decode_masked_state(task) if name == MASKED else None
        check_answer(answer, wire.decode_call(task), job, state)
        return
    if name == wire.INTRODUCE:
        introduction = wire.decode_reply(SiteIntroduction, site, model)
        _check_words(site, introduction)
        contracts.check_introduction(introduction, job)
        contracts.check_base_magnitudes(introduction, introduction.spec, job)
    elif name == wire.TRAIN:
        update, (_, state) = wire.decode_reply(SiteUpdate, site, model), wire.decode_state(task)
        _require_words(site, update.extra)
        # Which extras a method sends depends on the whole model, which is not at hand here: only the form counts.
        extras = {name: tuple(tensor.shape) for name, tensor in update.extra.items()}
        contracts.check_update(update, state, job, extras, _groups(site, update, state))
    elif name in wire.TASKS:
        contracts.check_evaluation(wire.decode_reply(SiteEvaluation, site, model), job)
    else:
        raise UpdateRejected(f"a reply to task {name!r} stays here", expected=" | ".join(wire.TASKS))


def _check_private(site: str, meta: Mapping[str, Any]) -> None:
    """Raise UpdateRejected if a number is neither public nor noised, where differential privacy is promised."""
    said = {name: meta[name] for name in ("samples", "weight") if name in meta}
    if any(value not in (0, 1) for value in said.values()) or not meta.get("metrics", {}).keys() <= METRICS:
        raise UpdateRejected(
            "a count, a weight or a metric of private samples stays here",
            where=site,
            expected=f"1 for {' and '.join(said) or 'each'}, and of metrics {', '.join(sorted(METRICS))}",
        )


def _check_words(site: str, reply: SiteIntroduction) -> None:
    """Raise UpdateRejected if any text of an introduction could be more than a name or a hash."""
    words = [reply.modality, reply.spec.backbone, *reply.spec.shapes]
    _require_words(site, [*words, *(name.partition("/")[2] for name in reply.shared_shapes)])


def _require_words(site: str, names: Iterable[str]) -> None:
    if not all(_WORD.fullmatch(part) for name in names for part in name.split("/")):
        raise UpdateRejected(
            "a text in the place of a name stays here", where=site, expected="letters, digits, . _ -"
        )


def _groups(site: str, update: SiteUpdate, state: GlobalState) -> dict[str, str]:
    """The groups, by part, whose tensors in the task are those that an update shares."""
    known = sorted({tuple(name.split("/")[:2]) for name in state.shared})
    found = {}
    for part in sorted({name.partition("/")[0] for name in update.shared}):
        sent = _shapes(below(f"{part}/", update.shared))
        fitting = [g for g, p in known if p == part and _shapes(below(f"{g}/{p}/", state.shared)) == sent]
        if not fitting:
            raise UpdateRejected(f"a change of {part!r} of no group in the task stays here", where=site)
        found[part] = fitting[0]
    return found


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
