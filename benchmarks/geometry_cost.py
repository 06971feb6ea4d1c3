"""The cost of the geometry loss on top of a task step, and the alignment that is left when it is computed rarely.

    python benchmarks/geometry_cost.py [--every 1 2 4 8] [--seeds 2] [--steps 40]

The demo federation with half of its *training* anchors, the other half left out for the measure: neither test
data nor held-out anchors are looked at. Cost: medians of interleaved blocks of steps at the image site, with and
without the loss. Alignment: mean over pairs of sites of debiased CKA and retrieval P@1 on the anchors left out,
after a whole run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from statistics import mean, median
from typing import Any

import torch
from fedgram.anchors import load_anchors
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.config.site import SiteConfig, read_site_config
from fedgram.config.strict import from_dict, to_dict
from fedgram.demo.names import locate
from fedgram.records import GlobalState
from fedgram.results.alignment import alignments
from fedgram.sites.opening import open_site
from fedgram.sites.single import SingleSite, open_single
from fedgram.training import step
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path("~/.cache/fedgram").expanduser()


def halves(folder: Path) -> tuple[Path, Path]:
    """The demo's training anchors as two sets: every other slot trains, the rest measures."""
    source = locate("demo:carnivora/anchors/train", CACHE)
    manifest = json.loads(Path(source, "manifest.json").read_text())
    parts = []
    for number, name in enumerate(("trains", "measures")):
        slots = manifest["slots"][number::2]
        for slot in slots:
            for file in slot["files"].values():
                target = folder / name / file["path"]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path(source, file["path"]), target)
        (folder / name / "manifest.json").write_text(json.dumps({**manifest, "slots": slots}))
        parts.append(folder / name)
    return parts[0], parts[1]


def federation(folder: Path) -> tuple[JobConfig, dict[str, SiteConfig]]:
    """The demo's job and sites on the halved anchors."""
    trains, measures = halves(folder)
    server = json.loads((ROOT / "jobs/geodora/app_server/config/config_fed_server.json").read_text())
    job = from_dict(JobConfig, server["workflows"][0]["args"]["job"], "jobs/geodora")
    pins = [
        AnchorPin(a.manifest_sha256, tuple(s.concept for s in a.slots))
        for a in map(load_anchors, (trains, measures))
    ]
    files = sorted((ROOT / "provisioning/simulator/local/fedgram").glob("hosp-*.toml"))
    sites = {
        file.stem: replace(read_site_config(file), anchors=str(trains), heldout=str(measures)) for file in files
    }
    return replace(job, anchors=pins[0], heldout=pins[1], baseline=False), sites


def variant(job: JobConfig, every: int, seed: int) -> JobConfig:
    """The job with the geometry loss in every n-th step; 0 is without it."""
    plain = to_dict(job)
    training = plain["training"] | ({"geometry_every": every} if every else {"geometry_weight": 0.0})
    return from_dict(JobConfig, plain | {"seed": seed, "training": training}, "variant")


def alignment(job: JobConfig, sites: dict[str, SiteConfig], folder: Path) -> tuple[float, float]:
    """The mean debiased CKA and P@1 over pairs of sites after a whole run."""
    sessions = {name: SiteSession(open_site(name, config, job), folder / name) for name, config in sites.items()}
    pairs = alignments(run_federation(sessions, job, folder / "server").together, job)
    return mean(p.cka for p in pairs), mean(p.retrieval for p in pairs if p.retrieval is not None)


def cost(site: SingleSite, jobs: dict[int, JobConfig], steps: int) -> dict[int, float]:
    """Seconds of a step with the loss in every n-th step over seconds without: median of interleaved blocks."""
    slots = site.job.anchors.slots
    state = GlobalState(
        round=0,
        anchors_sha256=site.anchors.sha256,
        backbone=site.spec.backbone,
        B={},
        m={},
        consensus=torch.eye(slots),
    )
    block = max(jobs)
    seconds: dict[int, list[float]] = {every: [] for every in jobs}
    for _ in range(max(3, steps // block)):
        for every, job in jobs.items():
            timed = replace(site, job=job)
            start = time.perf_counter()
            step.train(timed, 1, block, state)
            seconds[every].append(time.perf_counter() - start)
    return {
        every: median(a / b for a, b in zip(times, seconds[0], strict=True)) for every, times in seconds.items()
    }


def main() -> None:
    """Measure, print a table and JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--every", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as temporary:
        job, sites = federation(Path(temporary))
        site = open_single("hosp-image", sites["hosp-image"], job)
        ratios = cost(site, {every: variant(job, every, 0) for every in (0, *options.every)}, options.steps)
        for every in (0, *options.every):
            runs = [
                alignment(variant(job, every, seed), sites, Path(temporary, f"{every}-{seed}"))
                for seed in range(options.seeds)
            ]
            ckas, retrievals = zip(*runs, strict=True)
            rows.append({"every": every, "step": ratios[every], "cka": ckas, "retrieval": retrievals})
            print(rows[-1], flush=True)
    table = Table(
        "geometry loss in every n-th step", "time of a step / without", "debiased CKA, by seed", "P@1, by seed"
    )
    for row in rows:
        values = [" ".join(f"{v:.2f}" for v in row[key]) for key in ("cka", "retrieval")]
        table.add_row("none" if row["every"] == 0 else str(row["every"]), f"{row['step']:.3f}", *values)
    Console(width=110).print(table)
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
