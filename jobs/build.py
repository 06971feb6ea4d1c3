"""Writes the job folders of the baselines from `jobs/geodora`: the same federation, another method.

    python jobs/build.py

A test keeps the folders as this script writes them.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from fedgram.config import JobConfig
from fedgram.methods import method_of
from fedgram.settings import from_dict

JOBS = Path(__file__).resolve().parent
_SERVER = "app_server/config/config_fed_server.json"

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


if __name__ == "__main__":
    for job in METHODS:
        build(job, Path(sys.argv[1]) if len(sys.argv) > 1 else JOBS)
