"""The bytes of one reply of the study's unified site as FLARE serialises it, against all weights in bf16.

python -m research.fedumm.wire [FOLDER]
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

from fedgram.flare import wire
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession
from nvflare.app_common.abstract.fl_model import FLModel

from benchmarks.wire_bytes import serialised
from research.fedumm.__main__ import FOLDER
from research.fedumm.trial import Trial, open_sites, quiet

CASES: tuple[tuple[str, int], ...] = (("fedit", 4), ("fedit", 16), ("fedit", 64), ("ffa", 16))


def main(folder: Path) -> dict[str, int]:
    """The bytes of the replies of one site after one round, by method and rank."""
    quiet()
    found = {}
    for method, rank in CASES:
        job, sites = open_sites(Trial(1, inf, method, rank, 1, 1, 0.0, 1.0, 0), folder)
        ((name, site),) = sites.items()
        job = replace(job, training=replace(job.training, local_steps=1))
        site = replace(site, job=job)
        if not found:
            model: Any = site.model.unified
            whole = {k: v.bfloat16() for k, v in model.model.state_dict().items() if "lora_" not in k}
            tower = {k: v for k, v in whole.items() if "language_model" in k}
            found = {"all weights": serialised(FLModel(params=whole)), "tower": serialised(FLModel(params=tower))}
        with tempfile.TemporaryDirectory() as temporary:
            outcome = run_federation({name: SiteSession(site, Path(temporary))}, job, Path(temporary, "server"))
        update = rounds.local_round(site, outcome.server.state)
        found[f"{method}, r = {rank}"] = serialised(wire.encode_reply(update))
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER), indent=2))
