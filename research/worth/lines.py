"""The lines of a table: home, what is shared in which way, and the baselines of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from fedgram.config.job import JobConfig
from fedgram.config.site import Share
from fedgram.config.strict import from_dict, to_dict
from fedgram.flare.jobs import settings
from fedgram.methods import METHODS
from fedgram.sites.single import SingleSite, open_single

from research.evidence.federations import Federation

RATE = 2e-3  # of which the tried rates of B are multiples
GROUPS: tuple[Share, ...] = ("adapter", "head")
_NO_LOSSES = {"geometry_weight": 0.0, "concept_weight": 0.0}
BUDGET = {"rounds": 12, "local_steps": 2, "geometry_every": 4}
_LONGER = {"rounds": 48}
_LAYERS = 1  # of the pre-trained base: a study of hundreds of runs on two cores


@dataclass(frozen=True)
class Line:
    """One line of a table.

    Attributes:
        title: in tables.
        job: that it is, with ``changes`` of its training; None is home.
        share: as the sites' own files say it.
        rates: multiples of :data:`RATE` that are tried on validation data.
        as_tuned: the line whose rate it takes instead.
    """

    title: str
    job: str | None
    changes: Mapping[str, float] | None = None
    share: tuple[Share, ...] = ()
    rates: tuple[int, ...] = (1, 3)
    as_tuned: str = ""


LINES: Mapping[str, Line] = {
    "home": Line("home: alone, own anchors as labels", None),
    "fedit": Line("FedIT: LoRA averaged", "fedit"),
    "fedproto": Line("FedProto: class means", "fedproto"),
    "fedsaf": Line("FedSAF: relations of class means", "fedsaf"),
    "paper": Line("GeoLoRA: B and Ḡ", "geolora"),
    "ours": Line("GeoLoRA with groups", "geolora", share=GROUPS),
    "groups": Line("groups alone: no B, no Ḡ", "local", share=GROUPS, as_tuned="home"),
    "no losses": Line("groups and B, no Ḡ", "geolora", changes=_NO_LOSSES, share=GROUPS, as_tuned="ours"),
    "frozen B": Line(
        "groups and Ḡ, B frozen", "geolora", changes={"learning_rate": 1e-9}, share=GROUPS, as_tuned="ours"
    ),
    "home, longer": Line("home, four times the rounds", None, changes=_LONGER, as_tuned="home"),
    "ours, longer": Line("with groups, four times the rounds", "geolora", _LONGER, GROUPS, as_tuned="ours"),
}


def job_of(line: str, federation: Federation, seed: int, rate: int) -> JobConfig:
    """The settings of a line on a federation.

    Args:
        rate: a multiple of :data:`RATE`.
    """
    found = LINES[line]
    plain = settings(found.job or "local")
    changes = {**BUDGET, "learning_rate": rate * RATE, **(found.changes or {})}
    plain["training"] = {**plain.get("training", {}), **changes}
    if found.job is None:  # what a run's own baseline would do: the losses need no other site
        plain["training"]["concept_weight"] = 0.3
        plain["adapter"] = {**plain.get("adapter", {}), "dora": False}
    plain |= {"anchors": to_dict(federation.anchors), "heldout": to_dict(federation.heldout)}
    job = from_dict(JobConfig, plain | {"baseline": line == "ours", "seed": seed}, line)
    backbone = federation.backbone
    return replace(job, backbone=backbone if backbone.layers is None else replace(backbone, layers=_LAYERS))


def open_sites(line: str, federation: Federation, job: JobConfig) -> dict[str, SingleSite]:
    """The opened sites of a federation, whose own files share what the line says and allow every method."""
    share = LINES[line].share
    return {
        name: open_single(name, replace(config, share=share, methods=tuple(METHODS)), job)
        for name, config in federation.sites.items()
    }
