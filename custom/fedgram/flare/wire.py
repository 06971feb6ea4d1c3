"""fedgram's records as FLModel, the message of FLARE, and back.

Decoding trusts nothing: whatever is missing or of the wrong kind is an UpdateRejected that names the site.
Only plain, contiguous CPU tensors are sent: FLARE 2.9.0 ends the server's job process on anything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.strict import to_dict
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.records import GlobalState, ModelSpec, SiteEvaluation, SiteIntroduction, SiteUpdate, below

INTRODUCE, TRAIN, ALONE, EVALUATE = "gram", "train", "alone", "evaluate"
TASKS = (INTRODUCE, TRAIN, ALONE, EVALUATE)
ERROR_HEADER = "fedgram_error"  # of an error reply: the kind of error, never its text


def workspace_of(fl_ctx: FLContext) -> Workspace:
    """The workspace of the participant that runs this code."""
    workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
    if not isinstance(workspace, Workspace):
        raise ConfigError("FLARE gave no workspace", where=fl_ctx.get_identity_name())
    return workspace


def encode_task(job: JobConfig, run: str = "", state: GlobalState | None = None) -> FLModel:
    """A task for the sites: the job's settings and, from round 1 on, the global state."""
    meta: dict[str, Any] = {"job": to_dict(job), "run": run}
    if state is None:
        return FLModel(params_type=ParamsType.FULL, params={}, meta=meta, current_round=0)
    meta |= {"round": state.round, "anchors_sha256": state.anchors_sha256, "backbone": state.backbone}
    params = {f"B/{k}": v for k, v in state.B.items()}
    params |= {f"m/{k}": v for k, v in state.m.items()}
    params |= {f"extra/{k}": v for k, v in state.extra.items()}
    params["consensus"] = state.consensus
    return _model(params, meta, state.round)


def decode_state(model: FLModel) -> tuple[str, GlobalState]:
    """Run and global state in a task."""
    meta, params = model.meta or {}, model.params or {}
    state = GlobalState(
        round=meta["round"],
        anchors_sha256=meta["anchors_sha256"],
        backbone=meta["backbone"],
        B=below("B/", params),
        m=below("m/", params),
        consensus=params["consensus"],
        extra=below("extra/", params),
    )
    return meta["run"], state


def encode_introduction(reply: SiteIntroduction) -> FLModel:
    """Round 0, from a site."""
    meta = {
        "version": reply.version,
        "anchors_sha256": reply.anchors_sha256,
        "backbone": reply.spec.backbone,
        "width": reply.spec.width,
        "shapes": {k: list(v) for k, v in reply.spec.shapes.items()},
        "slots": list(reply.slots),
        "samples": reply.samples,
        "modality": reply.modality,
    }
    return _model({"gram": reply.gram}, meta, 0)


def decode_introduction(site: str, model: FLModel) -> SiteIntroduction:
    """Round 0, at the server."""
    fields = _Fields(site, model)
    shapes = {str(k): tuple(map(int, v)) for k, v in fields.get("shapes", dict).items()}
    if any(len(shape) != 3 or min(shape) < 1 for shape in shapes.values()):
        raise UpdateRejected("layer shapes", where=site, expected="(d_out, r, d_in) by layer")
    spec = ModelSpec(shapes=shapes, backbone=fields.get("backbone", str), width=fields.get("width", int))  # type: ignore[arg-type]
    return SiteIntroduction(
        site=site,
        version=fields.get("version", str),
        anchors_sha256=fields.get("anchors_sha256", str),
        spec=spec,
        gram=fields.tensor("gram"),
        slots=fields.slots("slots"),
        samples=fields.get("samples", int),
        modality=fields.get("modality", str),
    )


def encode_update(reply: SiteUpdate) -> FLModel:
    """A round's result, from a site: exactly the contract's list and nothing else."""
    params = {f"delta_B/{k}": v for k, v in reply.delta_B.items()}
    params |= {f"m/{k}": v for k, v in reply.m.items()}
    params |= {f"extra/{k}": v for k, v in reply.extra.items()}
    meta = {
        "round": reply.round,
        "anchors_sha256": reply.anchors_sha256,
        "slots": list(reply.slots),
        "weight": reply.weight,
        "samples": reply.samples,
        "metrics": dict(reply.metrics),
        "restarts": reply.restarts,
    }
    return _model({**params, "gram": reply.gram}, meta, reply.round)


def decode_update(site: str, model: FLModel) -> SiteUpdate:
    """A round's result, at the server."""
    fields = _Fields(site, model)
    fields.only("delta_B/", "m/", "extra/", "gram")
    return SiteUpdate(
        site=site,
        round=fields.get("round", int),
        anchors_sha256=fields.get("anchors_sha256", str),
        delta_B=fields.part("delta_B"),
        m=fields.part("m"),
        gram=fields.tensor("gram"),
        slots=fields.slots("slots"),
        weight=fields.get("weight", float),
        samples=fields.get("samples", int),
        metrics=fields.get("metrics", dict),
        restarts=fields.get("restarts", int),
        extra=fields.part("extra"),
    )


def encode_evaluation(reply: SiteEvaluation) -> FLModel:
    """The final evaluation, from a site."""
    meta = {
        "metrics": dict(reply.metrics),
        "slots": list(reply.slots),
        "heldout_slots": list(reply.heldout_slots),
    }
    return _model({"gram": reply.gram}, meta, 0)


def decode_evaluation(site: str, model: FLModel) -> SiteEvaluation:
    """The final evaluation, at the server."""
    fields = _Fields(site, model)
    return SiteEvaluation(
        site=site,
        metrics=fields.get("metrics", dict),
        gram=fields.tensor("gram"),
        slots=fields.slots("slots"),
        heldout_slots=fields.slots("heldout_slots"),
    )


def _model(params: Mapping[str, Tensor], meta: dict[str, Any], round: int) -> FLModel:
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in params.items()}
    return FLModel(params_type=ParamsType.FULL, params=plain, meta=meta, current_round=round)


class _Fields:
    """Typed access to the fields of a reply; a fault is an UpdateRejected."""

    def __init__(self, site: str, model: FLModel):
        self._site, self._params, self._meta = site, model.params or {}, model.meta or {}

    def get(self, name: str, kind: type) -> Any:
        value = self._meta.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            raise UpdateRejected(f"{name}: {type(value).__name__}", where=self._site, expected=kind.__name__)
        return value

    def slots(self, name: str) -> tuple[int, ...]:
        value = self.get(name, list)
        if not all(isinstance(slot, int) for slot in value):
            raise UpdateRejected(f"{name}: not whole numbers", where=self._site)
        return tuple(value)

    def tensor(self, name: str) -> Tensor:
        value = self._params.get(name)
        if not isinstance(value, Tensor):
            raise UpdateRejected(f"{name}: {type(value).__name__}", where=self._site, expected="a tensor")
        return value

    def part(self, part: str) -> dict[str, Tensor]:
        found = below(f"{part}/", self._params)
        for name in found:
            self.tensor(f"{part}/{name}")
        return found

    def only(self, *prefixes: str) -> None:
        unknown = [name for name in self._params if not str(name).startswith(prefixes)]
        if unknown:
            raise UpdateRejected(f"unknown parts {unknown[:3]}", where=self._site, expected=", ".join(prefixes))
