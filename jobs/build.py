"""Writes the job folders of the baselines from `jobs/geodora`, the same federation with another method, and those
of FedUMM.

    python jobs/build.py

A test keeps the folders as this script writes them.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedgram.anchors import load_anchors
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.methods import method_of

JOBS = Path(__file__).resolve().parent
_SERVER = "app_server/config/config_fed_server.json"
_CLIENT = "config/config_fed_client.json"

# What each job changes of jobs/geodora. Baselines have plain LoRA, none of fedgram's losses, weights by samples.
_PLAIN = {
    "adapter": {"dora": False},
    "training": {"geometry_weight": 0.0, "concept_weight": 0.0},
    "aggregation": {"weights": "samples"},
}
_GRAMS = {"geometry_weight": 1.0, "cka": "centered", "geometry_trains": "pipeline", "concept_weight": 0.0}
METHODS: dict[str, dict[str, Any]] = {
    "geolora": {"adapter": {"dora": False}},
    "local": {**_PLAIN, "method": {"name": "local"}},
    "fedit": {**_PLAIN, "method": {"name": "fedit"}},
    "ffa": {**_PLAIN, "method": {"name": "ffa"}},
    "fedsa": {**_PLAIN, "method": {"name": "fedsa"}},
    "flora": {**_PLAIN, "method": {"name": "flora"}},
    "fedex": {**_PLAIN, "method": {"name": "fedex"}},
    "fedprox": {**_PLAIN, "method": {"name": "fedprox", "strength": 0.1}},
    "fedadam": {
        **_PLAIN,
        "method": {"name": "fedit"},
        "aggregation": {
            "weights": "samples",
            "server_optimizer": "adam",
            "server_learning_rate": 0.002,
            "server_momentum": 0.9,
        },
    },
    "fedproto": {**_PLAIN, "method": {"name": "fedproto", "strength": 1.0}},
    "creamfl": {**_PLAIN, "method": {"name": "creamfl", "strength": 0.3}},
    "fedcola": {**_PLAIN, "method": {"name": "fedcola"}},
    "fedhenn": {**_PLAIN, "method": {"name": "fedhenn"}, "training": _GRAMS},
    "per_modality": {**_PLAIN, "method": {"name": "per_modality"}},
    "xflora": {**_PLAIN, "method": {"name": "xflora"}},
}

# Jobs over rendered scenes: all settings, and the sites of each executor. Plain FedUMM is FedAvg on both factors
# of LoRA without a loss over the anchors; the mixed one shares B alone, between sites of three kinds.
_SCENES = {
    "backbone": {"name": "janus-shapes"},
    "adapter": {"rank": 16, "alpha": 32.0, "dora": False},
    "baseline": False,
}
UNIFIED: dict[str, tuple[dict[str, Any], Mapping[str, tuple[str, ...]]]] = {
    "fedumm": (
        {
            **_SCENES,
            "method": {"name": "fedit"},
            "training": {
                "rounds": 20,
                "local_steps": 20,
                "batch_size": 16,
                "learning_rate": 2e-3,
                "geometry_weight": 0.0,
                "concept_weight": 0.0,
            },
            "aggregation": {"weights": "samples"},
        },
        {"unified": ("umm-1", "umm-2", "umm-3", "umm-4")},
    ),
    "fedumm-mixed": (
        {
            **_SCENES,
            "training": {"rounds": 8, "local_steps": 10, "batch_size": 16, "learning_rate": 3e-3},
            "aggregation": {"weights": "samples"},
        },
        {"unified": ("umm-1", "umm-2"), "image": ("scenes-image",), "text": ("scenes-text",)},
    ),
}


def build(name: str, jobs: Path) -> None:
    """Write the folder of one job below ``jobs``.

    Raises:
        ConfigError: settings that fedgram would refuse.
    """
    folder = jobs / name
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(JOBS / "geodora", folder)
    server = json.loads((folder / _SERVER).read_text())
    arguments = server["workflows"][0]["args"]
    job = arguments["job"]
    arguments["job"] = job | {part: {**job.get(part, {}), **new} for part, new in METHODS[name].items()}
    method_of(from_dict(JobConfig, arguments["job"], name))
    (folder / _SERVER).write_text(json.dumps(server, indent=2) + "\n")
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps({**meta, "name": f"fedgram-{name}"}, indent=2) + "\n")


def build_unified(name: str, jobs: Path) -> None:
    """Write the folder of one job over rendered scenes below ``jobs``.

    Raises:
        ConfigError: settings that fedgram would refuse.
    """
    folder, (settings, sites) = jobs / name, UNIFIED[name]
    shutil.rmtree(folder, ignore_errors=True)
    server = json.loads((JOBS / "geodora" / _SERVER).read_text())
    pins = {
        key: load_anchors(JOBS.parent / "anchors" / "scenes" / part).pin()
        for key, part in (("anchors", "train"), ("heldout", "heldout"))
    }
    job = server["workflows"][0]["args"]["job"] = {**pins, **settings}
    method_of(from_dict(JobConfig, job, name))
    _write(folder / _SERVER, server)
    client = json.loads((JOBS / "geodora" / "app_image" / _CLIENT).read_text())
    for kind in sites:
        client["executors"][0]["executor"]["path"] = f"fedgram.flare.executors.{kind.title()}Executor"
        _write(folder / f"app_{kind}" / _CLIENT, client)
    deployed = {"app_server": ["server"], **{f"app_{kind}": list(names) for kind, names in sites.items()}}
    meta = json.loads((JOBS / "geodora" / "meta.json").read_text())
    _write(folder / "meta.json", {**meta, "name": f"fedgram-{name}", "deploy_map": deployed})


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else JOBS
    for job in METHODS:
        build(job, target)
    for job in UNIFIED:
        build_unified(job, target)
