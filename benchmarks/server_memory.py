"""The server's memory over one round of many sites with updates of a large model: introductions, replies, close.

    python benchmarks/server_memory.py [--sites 4 256] [--model Llama-3.1-8B] [--anchors 24] [--rule mean]

The server alone, without FLARE, in a process for each number of sites: the largest resident memory beyond what the
process held before the first site, once round 0 and a first round are over. Every reply is made anew and then
forgotten, as one that FLARE has decoded. Goal: 256 sites within 1.1 × of 4. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import time

import torch
from fedgram import __version__
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.core.gram import cosine_gram
from fedgram.records import WIRE_DTYPE, ModelSpec, SiteIntroduction, SiteUpdate
from fedgram.training.server import Round, agree
from transformers import AutoModel

from benchmarks.wire_bytes import BACKBONES, RANK, adapted

_ANCHORS_SHA256, _NORM = "a" * 64, 1e-3  # of an entry of ΔB


def shapes_of(model: str) -> dict[str, tuple[int, int, int]]:
    """The (d_out, r, d_in) of the adapted layers of one of :data:`BACKBONES`."""
    with torch.device("meta"):
        found = adapted(AutoModel.from_config(BACKBONES[model]))
    return {name: (d_out, RANK, d_in) for name, (d_out, d_in) in found.items()}


def round_of(sites: int, shapes: dict[str, tuple[int, int, int]], anchors: int, rule: str) -> dict[str, float]:
    """Bytes and seconds at the server for round 0 and round 1 of so many sites."""
    settings = {
        "anchors": {"sha256": _ANCHORS_SHA256, "concepts": [f"concept-{slot}" for slot in range(anchors)]},
        "backbone": {"name": "benchmark"},
        "aggregation": {"rule": rule, "min_sites": 1},
    }
    job = from_dict(JobConfig, settings, "benchmark")
    spec = ModelSpec(shapes=shapes, backbone="b" * 64, width=64)
    names, slots = [f"site-{number:04}" for number in range(sites)], tuple(range(anchors))
    generator = torch.Generator().manual_seed(0)
    started, before = time.perf_counter(), _resident()
    gram = cosine_gram(torch.randn(anchors, 64, generator=generator))
    first = agree((_introduction(name, spec, gram.clone(), slots) for name in names), job)[0]
    current = Round(first, job, names)
    for name in names:
        delta = {k: torch.full((d, r), _NORM, dtype=WIRE_DTYPE) for k, (d, r, _) in shapes.items()}
        current.add(
            SiteUpdate(
                site=name,
                round=1,
                anchors_sha256=_ANCHORS_SHA256,
                delta_B=delta,
                m={},
                gram=gram.clone(),
                slots=slots,
                weight=1.0,
                samples=1,
            )
        )
    current.close()
    return {"bytes": _resident() - before, "seconds": time.perf_counter() - started}


def _introduction(site: str, spec: ModelSpec, gram: torch.Tensor, slots: tuple[int, ...]) -> SiteIntroduction:
    return SiteIntroduction(
        site=site,
        version=__version__,
        anchors_sha256=_ANCHORS_SHA256,
        spec=spec,
        gram=gram,
        slots=slots,
        samples=1,
        modality="text",
    )


def _resident() -> int:
    """The largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure each number of sites in a process of its own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--sites", type=int, nargs="+", default=[4, 256])
    parser.add_argument("--model", choices=BACKBONES, default="Llama-3.1-8B")
    parser.add_argument("--anchors", type=int, default=24)
    parser.add_argument("--rule", default="mean")
    options = parser.parse_args()
    shapes, found = shapes_of(options.model), {}
    for sites in options.sites:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            found[sites] = pool.apply(round_of, (sites, shapes, options.anchors, options.rule))
    print(json.dumps({"model": options.model, "rule": options.rule, "sites": found}, indent=2))


if __name__ == "__main__":
    main()
