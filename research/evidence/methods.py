"""The methods by the names that tables give them: a job, and the settings that an ablation changes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.flare.jobs import settings
from fedgram.methods import METHODS

from research.evidence.federations import Federation

CENTRAL = "central"  # not a job: all data in one place

_ALONE = ("local", "per_modality")  # nothing shared, or nothing across modalities: the first lines of a table
BASELINES = (*_ALONE, *sorted(METHODS.keys() - {"geo", *_ALONE}))
OURS = ("geolora", "geodora")

RATE = "learning rate × "  # a multiple of the jobs' own
_NO_LOSSES = {"geometry_weight": 0.0, "concept_weight": 0.0}
_PRINTED = {"cka": "paper", "concept_weight": 0.0}

# Ablations: a job, and what is changed of it. A name reads "job: change".
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    # the paper as printed: eq. 2 without centring, eq. 6 without centring, no loss of ours
    "geodora: as printed": ("geodora", {"training": _PRINTED, "aggregation": {"lap": "paper"}}),
    # the geometry loss
    "geodora: λ=0": ("geodora", {"training": {"geometry_weight": 0.0}}),
    "geodora: λ=0.3": ("geodora", {"training": {"geometry_weight": 0.3}}),
    "geodora: λ=3": ("geodora", {"training": {"geometry_weight": 3.0}}),
    "geodora: uncentred CKA": ("geodora", {"training": {"cka": "paper"}}),
    "geodora: debiased CKA": ("geodora", {"training": {"cka": "debiased"}}),
    "geodora: trains direction": ("geodora", {"training": {"geometry_trains": "direction"}}),
    "geodora: every 4th step": ("geodora", {"training": {"geometry_every": 4}}),
    # the loss in anchor coordinates
    "geodora: no concept loss": ("geodora", {"training": {"concept_weight": 0.0}}),
    "geodora: no concept loss, λ=0": ("geodora", {"training": _NO_LOSSES}),
    "geodora: concept loss 1": ("geodora", {"training": {"concept_weight": 1.0}}),
    "local: concept loss": ("local", {"training": {"concept_weight": 0.3}}),
    # what is shared, and how it is averaged
    "geodora: B not shared": ("geodora", {"method": {"name": "fedhenn"}}),
    "geodora: B frozen": ("geodora", {"training": {"learning_rate": 1e-9}}),
    "local: B frozen": ("local", {"training": {"learning_rate": 1e-9}}),
    "geodora: mean m": ("geodora", {"adapter": {"magnitude": "mean"}}),
    "geodora: uniform weights": ("geodora", {"aggregation": {"weights": "uniform"}}),
    "geodora: weights by samples": ("geodora", {"aggregation": {"weights": "samples"}}),
    "geodora: LAP as printed": ("geodora", {"aggregation": {"lap": "paper"}}),
    "geodora: server momentum": ("geodora", {"aggregation": {"server_momentum": 0.9}}),
    "geodora: server step 2": ("geodora", {"aggregation": {"server_learning_rate": 2.0}}),
    # the budget
    "geodora: learning rate × 5, λ=0": ("geodora", {"training": {"learning_rate": 1e-2, "geometry_weight": 0.0}}),
    "geodora: learning rate × 5, B not shared": (
        "geodora",
        {"training": {"learning_rate": 1e-2}, "method": {"name": "fedhenn"}},
    ),
    **{
        f"{job}: {RATE}{times}": (job, {"training": {"learning_rate": times * 2e-3}})
        for job in ("local", "fedit", "fedsa", "fedproto", *OURS)
        for times in (2, 5, 15)
    },
    "geodora: 8 rounds of 12": ("geodora", {"training": {"rounds": 8, "local_steps": 12}}),
    "geodora: rank 4": ("geodora", {"adapter": {"rank": 4, "alpha": 8.0}}),
    "geodora: rank 64": ("geodora", {"adapter": {"rank": 64, "alpha": 128.0}}),
}


def job_of(method: str, federation: Federation, seed: int) -> JobConfig:
    """The settings of a method on a federation.

    Raises:
        ConfigError: settings that fedgram refuses.
        KeyError: no method of this name.
    """
    known = {CENTRAL: ("fedit", {}), **{name: (name, {}) for name in (*BASELINES, *OURS)}, **ABLATIONS}
    name, changes = known[method]
    plain = settings(name)
    for part, values in changes.items():
        plain[part] = {**plain.get(part, {}), **values}
    plain |= {"anchors": to_dict(federation.anchors), "heldout": to_dict(federation.heldout)}
    job = from_dict(JobConfig, plain | {"baseline": False, "seed": seed}, method)
    return replace(job, backbone=federation.backbone)
