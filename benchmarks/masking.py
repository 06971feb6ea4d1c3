"""Seconds and bytes of masked sums: what a site and the server spend on masks in a round, training aside.

    python benchmarks/masking.py [minilm|llama] [sites ...]

A sum is run as in a job, with all its sites in one process and keys unsigned; one site's phases are timed, and the
server's own work. At the shapes of Llama-3.1-8B one site masks a whole update, and the server's work is that for
one site, measured, times their number: it takes each site's mask off by itself. Where some drop out it takes off
one mask more for every pair of one that is gone and one that is left. Prints a table in Markdown.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from hashlib import sha256
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from fedgram.config.job import AggregationConfig, AnchorPin, JobConfig
from fedgram.core.masks import stream
from fedgram.core.shares import joined, split, threshold
from fedgram.training.masked.gathering import MaskedSum
from fedgram.training.masked.identity import Unsigned
from fedgram.training.masked.member import Member
from fedgram.training.masked.memory import Memory
from fedgram.training.masked.messages import CONFIRM, KEYS, MASKED, PHASES, REVEAL, SHARES, SumCall

RANK, ANCHORS = 16, 24
_MINILM = {"query": 384, "key": 384, "value": 384, "dense": 384, "up": 1536, "down": 384}
_LLAMA = {"q": 4096, "k": 1024, "v": 1024, "o": 4096, "gate": 14336, "up": 14336, "down": 4096}
MODELS: Mapping[str, tuple[str, Mapping[str, int], int]] = {
    "minilm": ("MiniLM, 3 layers", _MINILM, 3),
    "llama": ("Llama-3.1-8B", _LLAMA, 32),
}
JOB = JobConfig(
    AnchorPin("0" * 64, ("oak",) * ANCHORS),
    aggregation=AggregationConfig(masked=True, clip=0, max_share=1, min_sites=3),
)


def shapes_of(widths: Mapping[str, int], layers: int) -> dict[str, tuple[int, ...]]:
    """The values of an update: B of every layer, G and the weight."""
    deltas = {f"B/{i}.{name}": (width, RANK) for i in range(layers) for name, width in widths.items()}
    return {"weight": (), **deltas, "G": (ANCHORS, ANCHORS)}


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long something takes, and what comes of it."""
    started = time.perf_counter()
    made = work()
    return time.perf_counter() - started, made


def members(count: int, folder: Path) -> dict[str, Member]:
    """Sites that have nothing but a name and a secret."""
    names = [f"site-{number:02d}" for number in range(count)]
    return {
        name: Member(
            name=name,
            secret=name,
            job=JOB.fingerprint(),
            seed=JOB.seed,
            anchors=ANCHORS,
            slots=tuple(range(ANCHORS)),
            identity=Unsigned(),
            memory=Memory(folder / name),
        )
        for name in names
    }


def whole_sum(count: int, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> tuple[float, float]:
    """A whole sum: the seconds of one site, and the server's."""
    sites = members(count, folder)
    values = {label: torch.ones(shape, dtype=torch.int64) for label, shape in shapes.items()}
    spent = dict.fromkeys(sites, 0.0)

    def ask(phase: str, calls: Mapping[str, SumCall], receive: Any, refuse: Any) -> None:
        for name, call in calls.items():
            took, reply = seconds(lambda name=name, call=call: answer(sites[name], phase, call, values))
            spent[name] += took
            receive(reply)

    took, total = seconds(lambda: MaskedSum("run", 1, JOB, shapes).gather(sites, ask))
    if any((value != count).any() for value in total.values()):
        raise SystemExit("the sum is wrong")
    return sum(spent.values()) / count, took - sum(spent.values())


def answer(site: Member, phase: str, call: SumCall, values: Mapping[str, torch.Tensor]) -> Any:
    """One answer of a site."""
    if phase == MASKED:
        return site.mask(call, values)
    return {KEYS: site.keys, SHARES: site.shares, CONFIRM: site.confirm, REVEAL: site.reveal}[phase](call)


def one_site(count: int, shapes: Mapping[str, tuple[int, ...]], folder: Path) -> tuple[float, float]:
    """The seconds of one site in a sum of so many, and the server's by those of one site."""
    sites = members(count, folder)
    call = SumCall(run="run", round=1, state="0" * 64)
    call = replace(call, cards={name: site.keys(call).card for name, site in sites.items()}, sharers=tuple(sites))
    first = sites["site-00"]
    values = {label: torch.ones(shape, dtype=torch.int64) for label, shape in shapes.items()}
    shared, _ = seconds(lambda: first.shares(call))
    masking, hidden = seconds(lambda: first.mask(call, values).sums)
    total = {label: torch.zeros(shape, dtype=torch.int64) for label, shape in shapes.items()}

    def unmask() -> None:
        for label, value in total.items():
            value += hidden[label]
            value -= stream(b"seed", label, tuple(value.shape))

    taking_off, _ = seconds(unmask)
    shares = dict(enumerate(split(sha256(b"x").digest()[:16], threshold(count), count), start=1))
    joining, _ = seconds(lambda: joined(shares, threshold(count)))
    return shared + masking, count * (taking_off + joining)


def main(model: str, counts: list[int]) -> None:
    """Print the table of a model's shapes."""
    torch.set_num_threads(1)
    title, widths, layers = MODELS[model]
    shapes = shapes_of(widths, layers)
    numbers = sum(prod(shape) for shape in shapes.values())
    print(f"{title}: {numbers:,} values, {8 * numbers / 1e6:.1f} MB a site and round, {len(PHASES)} phases\n")
    print("| sites | needed | a site, s | the server, s |\n|---|---|---|---|")
    for count in counts:
        with TemporaryDirectory() as folder:
            measure = whole_sum if model == "minilm" else one_site
            site, server = measure(count, shapes, Path(folder))
        print(f"| {count} | {threshold(count)} | {site:.2f} | {server:.2f} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "minilm", [int(n) for n in sys.argv[2:]] or [4, 16, 64])
