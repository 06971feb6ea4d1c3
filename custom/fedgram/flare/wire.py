"""The records of fedgram as FLModel, the message of FLARE, and back.

Decoding trusts nothing: whatever is missing or of the wrong kind is an UpdateRejected that names the site.
Only plain, contiguous CPU tensors are sent: FLARE 2.9.0 ends the server's job process on anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, TypeVar

from nvflare.apis.fl_constant import FLContextKey, FLMetaKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.core.directory import Directory, from_tensors, to_tensors
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.records import GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate, below
from fedgram.training.codec import pack, unpack
from fedgram.training.masked.messages import (
    PHASES,
    Confirmation,
    MaskedUpdate,
    RevealedShares,
    SiteKeys,
    SiteShares,
    SumCall,
)

INTRODUCE, TRAIN, ALONE, EVALUATE, SETTLE = "gram", "train", "alone", "evaluate", "settle"
TASKS = (INTRODUCE, TRAIN, ALONE, EVALUATE, SETTLE, *PHASES)
_DIRECTORY = "directory/"  # of names of tensors in a task
LOST_SECONDS = 30.0  # without a word of the other side, until a request is made again: it was lost on its way
ERROR_HEADER = "fedgram_error"  # of an error reply: the kind of error, never its text
_FLARES = {*(value for name, value in vars(FLMetaKey).items() if name.isupper()), "client_name", "props"}

Answer = SiteKeys | SiteShares | MaskedUpdate | Confirmation | RevealedShares
Reply = SiteIntroduction | SiteUpdate | SiteEvaluation | Answer
R = TypeVar("R", bound=Reply)


def workspace_of(fl_ctx: FLContext) -> Workspace:
    """The workspace of the participant that runs this code."""
    workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    if not isinstance(workspace, Workspace):
        raise ConfigError("FLARE gave no workspace", where=fl_ctx.get_identity_name())
    return workspace


def encode_task(
    job: JobConfig, run: str = "", state: GlobalState | None = None, directory: Directory | None = None
) -> FLModel:
    """A task for the sites: the job's settings, from round 1 on the global state, at the end the directory."""
    tensors, facts = ({}, {}) if state is None else pack(state)
    tensors |= {f"{_DIRECTORY}{name}": values for name, values in to_tensors(directory).items()}
    return _message(tensors, {"job": to_dict(job), "run": run, **facts})


def encode_call(job: JobConfig, call: SumCall, state: GlobalState | None = None) -> FLModel:
    """A task for the sites: a phase of a masked sum, in which they train with the global state."""
    task = encode_task(job, call.run, state)
    task.meta["call"] = to_dict(call)
    return task


def decode_call(model: FLModel) -> SumCall:
    """The phase of a masked sum in a task.

    Raises:
        ConfigError: the server's fedgram says it in another way than this one.
    """
    return from_dict(SumCall, (model.meta or {}).get("call", {}), "task: call")


def decode_masked_state(model: FLModel) -> GlobalState | None:
    """The global state in a task of a masked sum; None before the first round.

    Raises:
        ConfigError: the server's fedgram says it in another way than this one.
    """
    return decode_state(model)[1] if decode_call(model).round else None


def decode_state(model: FLModel) -> tuple[str, GlobalState]:
    """The run and the global state in a task.

    Raises:
        ConfigError: the server's fedgram says it in another way than this one.
    """
    error = partial(ConfigError, where="task", remedy="run the same version of fedgram as the server")
    facts = _facts(model)
    run, _, _ = facts.pop("run", None), facts.pop("job", None), facts.pop("call", None)
    if not isinstance(run, str):
        raise error(f"run: {type(run).__name__}", expected="str")
    params = {name: value for name, value in (model.params or {}).items() if not name.startswith(_DIRECTORY)}
    return run, unpack(GlobalState, params, facts, error)


def decode_directory(model: FLModel, slots: int) -> Directory | None:
    """The directory of concepts in a task; None where there is none.

    Args:
        slots: B.

    Raises:
        ConfigError: the server's fedgram says it in another way than this one.
    """
    return from_tensors(below(_DIRECTORY, model.params or {}), slots)


def encode_reply(reply: Reply) -> FLModel:
    """A site's answer: exactly the contract's list and nothing else; FLARE itself says whose it is."""
    tensors, facts = pack(reply)
    del facts["site"]
    return _message(tensors, facts)


def decode_reply(kind: type[R], site: str, model: FLModel) -> R:
    """A site's answer, read at the server.

    Args:
        kind: of record that answers the task.
        site: that FLARE has it from; no message says that itself.
        model: the message.

    Raises:
        UpdateRejected: it is anything else.
    """
    facts = {**_facts(model), "site": site}
    return unpack(kind, model.params or {}, facts, partial(UpdateRejected, where=site))


def _message(tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> FLModel:
    params = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return FLModel(params_type=ParamsType.FULL, params=params, meta=facts, current_round=facts.get("round", 0))


def _facts(model: FLModel) -> dict[str, Any]:
    """The values of a message without those that FLARE puts beside them."""
    return {name: value for name, value in (model.meta or {}).items() if name not in _FLARES}
