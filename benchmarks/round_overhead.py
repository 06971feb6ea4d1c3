"""The cost of a round with next to nothing to train: FLARE, processes, checks, aggregation, files.

    python benchmarks/round_overhead.py [--rounds 20]

The tests' toy federation with four sites, one optimiser step a round, on `nvflare simulator` and on a provisioned
federation of this machine (separate processes, mutual TLS). The first round, a warm-up, is left out.
Goal: 1 s. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / path) for path in ("tests", "tests/integration", "provisioning")]

import simulator  # noqa: E402
import toy  # noqa: E402
from federation.federation import HONEST, running  # noqa: E402

SITES = {**HONEST, "red2": (simulator.HONEST, "red")}


def in_simulator(run: toy.Toy, folder: Path) -> Path:
    """The server's results of a run with `nvflare simulator`."""
    folder.mkdir()
    simulator.prepare(run, folder, SITES)
    return simulator.run(run, folder, len(SITES))


def on_federation(run: toy.Toy, folder: Path) -> Path:
    """The server's results of a run on a provisioned federation of this machine."""
    folder.mkdir()
    with running(run, folder, SITES) as federation:
        job = federation.submit(folder / "job")
        federation.wait(job)
        return federation.download(job, folder / "download") / "fedgram"


def summary(results: Path) -> dict[str, Any]:
    """The seconds of the rounds, from the server's own record of them."""
    records = json.loads((results / "metrics.json").read_text())["rounds"]
    seconds = [record["seconds"] for record in records[1:]]
    training = [max(metrics["seconds"] for metrics in record["metrics"].values()) for record in records[1:]]
    return {
        "rounds": len(seconds),
        "median": round(median(seconds), 3),
        "smallest": round(min(seconds), 3),
        "largest": round(max(seconds), 3),
        "of which one step, median of the slowest site": round(median(training), 3),
    }


def main() -> None:
    """Run the simulator and the federation, and print JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        run = toy.make(folder / "toy").with_job(training={"rounds": rounds, "local_steps": 1}, baseline=False)
        found = {
            "simulator": summary(in_simulator(run, folder / "simulator")),
            "federation": summary(on_federation(run, folder / "federation")),
        }
    print(json.dumps({**found, "goal": 1.0}, indent=1))


if __name__ == "__main__":
    main()
