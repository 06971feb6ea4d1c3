"""Many light sites behind relays: what a federation of FLARE's own processes takes of one machine.

    python benchmarks/relays.py [--sites 16 64] [--relays 4] [--rounds 5] [--width 384]

A provisioned federation on loopback with mutual TLS, a parent and a job process a site. The sites have no data and
no model and answer at once, with updates as large as those of an encoder of MiniLM's width: what is measured is
FLARE, the network and the server. Seconds are those of a round from the second on; memory is proportional (shared
pages are divided), of the processes as they are in the last round. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from statistics import median
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / path) for path in ("tests", "tests/integration", "provisioning")]

import toy  # noqa: E402
from federation import light  # noqa: E402
from federation.federation import provision  # noqa: E402
from loopback import wait_until  # noqa: E402

_PATIENCE = 1200  # seconds for so many processes to start on a few cores


def measure(sites: int, relays: int, rounds: int, folder: Path) -> dict[str, Any]:
    """Seconds and bytes of a federation of so many sites, spread evenly over relays.

    Args:
        sites: K, three or more.
        relays: none where it is 0.
        rounds: two or more; the first is a warm-up.
        folder: empty.
    """
    run = toy.make(folder / "toy").with_job(
        adapter={"magnitude": "private", "rank": 16},
        training={"rounds": rounds},
        aggregation={"min_sites": sites, "deadline_seconds": _PATIENCE, "setup_seconds": _PATIENCE},
        baseline=False,
    )
    names = [f"site{number:03}" for number in range(sites)]
    executors = dict.fromkeys(names, ("light.LightExecutor", "red"))
    behind = {name: f"relay{number % relays}" for number, name in enumerate(names) if relays}
    federation = provision(run, folder, executors, relays=behind, heart_beat_timeout=_PATIENCE)
    try:
        started = time.perf_counter()
        federation.start(seconds=_PATIENCE)
        up = time.perf_counter() - started
        job = federation.submit(folder / "job")
        last = f"round {rounds}/{rounds} "
        wait_until(lambda: federation.ended(job) or last in federation.output(federation.server), _PATIENCE, last)
        server = _memory(federation.pids(federation.server))
        of_relays = [_memory(federation.pids(relay)) for relay in federation.relays]
        of_sites = [_memory(federation.pids(site)) for site in federation.sites]
        status = federation.wait(job, _PATIENCE)
        metrics = federation.download(job, folder / "download") / "fedgram/metrics.json"
    finally:
        federation.stop()
    records = json.loads(metrics.read_text())["rounds"]
    return {
        "status": status,
        "sites": sites,
        "relays": relays,
        "counted in every round": all(len(record["shares"]) == sites for record in records),
        "seconds until all are registered": round(up, 1),
        "seconds a round, median": round(median(record["seconds"] for record in records[1:]), 2),
        "seconds a round, largest": round(max(record["seconds"] for record in records[1:]), 2),
        "MB sent by a site": round(sum(records[0]["payload_bytes"].values()) / sites / 1e6, 2),
        "server, MB": round(server / 1e6),
        "a relay, MB": round(median(of_relays or [0]) / 1e6),
        "a site, MB": round(median(of_sites) / 1e6),
    }


def _memory(pids: Iterable[int]) -> int:
    """Proportional bytes of some processes."""
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids)


def main() -> None:
    """Measure each number of sites, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[16, 64])
    parser.add_argument("--relays", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--width", type=int, default=384)
    options = parser.parse_args()
    os.environ[light.WIDTH] = str(options.width)
    for sites in options.sites:
        with tempfile.TemporaryDirectory() as temporary:
            print(
                json.dumps(measure(sites, options.relays, options.rounds, Path(temporary)), indent=1), flush=True
            )


if __name__ == "__main__":
    main()
