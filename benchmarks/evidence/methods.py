"""The methods by the name that tables give them: a job folder, and what an ablation changes of it.

The settings of the folders in `jobs/` are those that run, so a table shows what a user would get.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from fedgram.config import JobConfig
from fedgram.settings import from_dict, to_dict

from benchmarks.evidence.federations import Federation

_JOBS = Path(__file__).resolve().parents[2] / "jobs"
CENTRAL = "central"  # not a job: all data in one place

BASELINES = (
    "local",
    "per_modality",
    "fedit",
    "ffa",
    "fedsa",
    "flora",
    "fedex",
    "fedprox",
    "fedadam",
    "fedproto",
    "creamfl",
    "fedcola",
    "fedhenn",
    "xflora",
)
OURS = ("geolora", "geodora")

# Ablations: of which job, and what is changed. A name reads "job: change".
ABLATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "geodora: λ=0": ("geodora", {"training": {"geometry_weight": 0.0}}),
    "geodora: λ=1": ("geodora", {"training": {"geometry_weight": 1.0}}),
    "geodora: λ=3": ("geodora", {"training": {"geometry_weight": 3.0}}),
    "geodora: loss as printed": ("geodora", {"training": {"cka": "paper"}}),
    "geodora: loss centred": ("geodora", {"training": {"cka": "centered"}}),
    "geodora: geometry trains all": ("geodora", {"training": {"geometry_trains": "pipeline"}}),
    "geodora: all, λ=1": ("geodora", {"training": {"geometry_trains": "pipeline", "geometry_weight": 1.0}}),
    "geodora: every 4th step": ("geodora", {"training": {"geometry_every": 4}}),
    "geodora: mean m": ("geodora", {"adapter": {"magnitude": "mean"}}),
    "geodora: uniform weights": ("geodora", {"aggregation": {"weights": "uniform"}}),
    "geodora: weights by samples": ("geodora", {"aggregation": {"weights": "samples"}}),
    "geodora: summed precision": ("geodora", {"aggregation": {"weights": "precision_sum"}}),
    "geodora: LAP as printed": ("geodora", {"aggregation": {"lap": "paper"}}),
    "geodora: median Ḡ": ("geodora", {"aggregation": {"consensus": "median"}}),
    "geodora: server momentum": ("geodora", {"aggregation": {"server_momentum": 0.9}}),
    "geodora: server step 2": ("geodora", {"aggregation": {"server_learning_rate": 2.0}}),
    "geodora: 8 rounds of 12": ("geodora", {"training": {"rounds": 8, "local_steps": 12}}),
    "geodora: rank 4": ("geodora", {"adapter": {"rank": 4, "alpha": 8.0}}),
    "geodora: rank 64": ("geodora", {"adapter": {"rank": 64, "alpha": 128.0}}),
    "geodora: after 8 rounds": ("geodora", {"training": {"geometry_after": 8}}),
    "geodora: Ḡ of concepts": ("geodora", {"training": {"geometry_of": "concepts"}}),
    "geodora: concept loss": ("geodora", {"training": {"concept_weight": 0.3}}),
    "geodora: concept loss, λ=0": ("geodora", {"training": {"concept_weight": 0.3, "geometry_weight": 0.0}}),
    "geodora: concept loss 1": ("geodora", {"training": {"concept_weight": 1.0}}),
    "geodora: concept loss 1, λ=0": ("geodora", {"training": {"concept_weight": 1.0, "geometry_weight": 0.0}}),
    "geodora: concept loss 1, Ḡ of concepts": (
        "geodora",
        {"training": {"concept_weight": 1.0, "geometry_of": "concepts"}},
    ),
    "geodora: concept loss 1, all": (
        "geodora",
        {"training": {"concept_weight": 1.0, "geometry_trains": "pipeline"}},
    ),
    "geodora: all, λ=3": ("geodora", {"training": {"geometry_trains": "pipeline", "geometry_weight": 3.0}}),
    "geodora: all, λ=1, centred": (
        "geodora",
        {"training": {"geometry_trains": "pipeline", "geometry_weight": 1.0, "cka": "centered"}},
    ),
    "geodora: all, λ=1, centred, concept loss": (
        "geodora",
        {
            "training": {
                "geometry_trains": "pipeline",
                "geometry_weight": 1.0,
                "cka": "centered",
                "concept_weight": 0.3,
            }
        },
    ),
    "local: B frozen": ("local", {"training": {"learning_rate": 1e-9}}),
    "fedhenn: B frozen": ("fedhenn", {"training": {"learning_rate": 1e-9}}),
    "fedhenn: concept loss": ("fedhenn", {"training": {"concept_weight": 0.3}}),
    "geodora: 96 rounds": ("geodora", {"training": {"rounds": 96}}),
    "local: 96 rounds": ("local", {"training": {"rounds": 96}}),
    "geodora: all, λ=1, Ḡ of concepts": (
        "geodora",
        {"training": {"geometry_trains": "pipeline", "geometry_weight": 1.0, "geometry_of": "concepts"}},
    ),
    "geodora: all, λ=1, concept loss 1": (
        "geodora",
        {"training": {"geometry_trains": "pipeline", "geometry_weight": 1.0, "concept_weight": 1.0}},
    ),
    "geodora: all, λ=1, concept loss 1, Ḡ of concepts": (
        "geodora",
        {
            "training": {
                "geometry_trains": "pipeline",
                "geometry_weight": 1.0,
                "concept_weight": 1.0,
                "geometry_of": "concepts",
            }
        },
    ),
    "fedhenn: concept loss 1": ("fedhenn", {"training": {"concept_weight": 1.0}}),
    "geodora: small step": ("geodora", {"training": {"learning_rate": 5e-4}}),
    "geodora: server step ½": ("geodora", {"aggregation": {"server_learning_rate": 0.5}}),
    "local: concept loss 1": ("local", {"training": {"concept_weight": 1.0}}),
    "geodora: B not shared": ("geodora", {"method": {"name": "fedhenn"}}),
}


def job_of(method: str, federation: Federation, seed: int) -> JobConfig:
    """The settings of a method on a federation.

    Raises:
        ConfigError: settings that fedgram refuses.
        KeyError: no method of this name.
    """
    known = {CENTRAL: ("fedit", {}), **{name: (name, {}) for name in (*BASELINES, *OURS)}, **ABLATIONS}
    folder, changes = known[method]
    plain = dict(_settings(folder))
    for part, values in changes.items():
        plain[part] = {**plain.get(part, {}), **values}
    plain |= {"anchors": to_dict(federation.anchors), "heldout": to_dict(federation.heldout)}
    job = from_dict(JobConfig, plain | {"baseline": False, "seed": seed}, method)
    return replace(job, backbone=federation.backbone)


@cache
def _settings(folder: str) -> dict[str, Any]:
    server = json.loads((_JOBS / folder / "app_server/config/config_fed_server.json").read_text())
    return server["workflows"][0]["args"]["job"]
