"""Tokens per second and peak memory of a site's local steps on a GPU, against plain PEFT LoRA and PEFT DoRA.

    python benchmarks/gpu.py [--miniature] [--out results/gpu.json]

Llama shapes of about 1B and 7B with random weights, nothing is downloaded; frozen weights in bf16 and in nf4; rank
16 on all linear layers. The checkpoint is written to the folder for temporary files (14 GB at 7B) and read back as
a site reads its backbone. All methods train the same model on the same batches: a linear adapter on tokens, the
transformer, pooling and a classification head, with a site's optimiser. GeoLoRA and GeoDoRA go through fedgram's
own loop, without the losses over anchors (`geometry_cost.py` has those); the stock adapters go through a plain
loop under bf16 autocast, with A trained, as transformers' Trainer runs them with `bf16=True`. At 7B layers are
computed twice, by each side's own gradient checkpointing.

Each method's peak is the allocator's while it is alone with the frozen weights. Then all four share these weights
and run in rounds A B C D A B C D …; ratios are medians within rounds, tokens per second those of the median run.
It is made to take less than 10 minutes on one card of 80 GB. `--miniature` tries everything on models of width 64,
on the CPU too, where time says little and memory, which is the process's, nothing.
"""

from __future__ import annotations

import copy
import gc
import json
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from fedgram.config.job import AnchorPin, BackboneConfig, JobConfig, TrainingConfig
from fedgram.config.site import Precision, SiteConfig
from fedgram.errors import FedgramError
from fedgram.methods import method_of
from fedgram.model.backbone import load_backbone
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale
from fedgram.model.tasks.labels import Classification
from fedgram.pretrained import quiet_loading
from fedgram.records import AnchorTokens, LabelledTokens, ModelSpec, Tokens
from fedgram.sites.base import derive_generator
from fedgram.sites.single import SingleSite
from fedgram.sites.state import make_optimizer
from fedgram.training import step
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import AutoModel, LlamaConfig

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.card import arguments, facts  # noqa: E402
from benchmarks.step_cost import RANK, adapt, forget_peak, interleaved, peak, ratio  # noqa: E402

METHODS = ("peft_lora", "peft_dora", "geo_lora", "geo_dora")
PRECISIONS: tuple[Precision, ...] = ("bf16", "nf4")
GOAL = 0.95  # of PEFT LoRA's tokens per second
STEPS = 2  # of one run: the second finds gradients and moments where training finds them
ROUNDS = 12
BUDGET = 60.0  # seconds for the rounds of one model in one precision
TOKEN_WIDTH = 64
CLASSES = ("a", "b", "c", "d")


@dataclass(frozen=True, kw_only=True)
class Size:
    """The shape of a model, of its batches, and whether its layers are computed twice."""

    name: str
    shape: Mapping[str, Any]
    batch: int
    length: int
    recompute: bool

    @property
    def tokens(self) -> int:
        """The tokens of one run."""
        return STEPS * self.batch * self.length


def llama(width: int, inside: int, layers: int, heads: int, kv_heads: int, vocabulary: int) -> dict[str, Any]:
    """The settings of a Llama by their names in transformers."""
    return {
        "hidden_size": width,
        "intermediate_size": inside,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "vocab_size": vocabulary,
    }


# The shapes of Llama 3.2 1B and Llama 2 7B.
CARD = (
    Size(name="1B", shape=llama(2048, 8192, 16, 32, 8, 128256), batch=16, length=512, recompute=False),
    Size(name="7B", shape=llama(4096, 11008, 32, 32, 32, 32000), batch=8, length=512, recompute=True),
)
MINIATURE = (Size(name="miniature", shape=llama(64, 128, 2, 4, 2, 40), batch=2, length=16, recompute=True),)


def write_random(size: Size, folder: str, device: str) -> None:
    """Write a checkpoint of random weights in bf16."""
    torch.manual_seed(0)
    with quiet_loading(), torch.device(device):
        model = AutoModel.from_config(LlamaConfig(**size.shape), dtype=torch.bfloat16)
        model.save_pretrained(folder, max_shard_size="2GB")


def twin(base: nn.Module) -> nn.Module:
    """Copy a model's modules and share its frozen tensors, so that four methods fit on one card."""
    quantised = [getattr(p, "quant_state", None) for p in base.parameters()]
    shared = [*base.parameters(), *base.buffers(), *quantised]
    return copy.deepcopy(base, {id(tensor): tensor for tensor in shared})


def open_local(method: str, base: nn.Module, size: Size, device: str) -> SingleSite:
    """A site with random tokens whose transformer has the adapters of one method."""
    training = TrainingConfig(batch_size=size.batch, geometry_weight=0.0, concept_weight=0.0)
    job = JobConfig(anchors=AnchorPin("0" * 64, CLASSES), training=training)
    draw, samples = derive_generator("gpu"), 4 * size.batch
    values = torch.randn(samples, size.length, TOKEN_WIDTH, generator=draw)
    tokens = Tokens(values, torch.ones(samples, size.length, dtype=torch.bool))
    targets = torch.randint(len(CLASSES), (samples,), generator=draw)
    task, width = Classification(CLASSES), size.shape["hidden_size"]
    adapter = TokenAdapter(tokens, width, embedding_scale(base), draw)
    head = task.head(width, size.length, draw)
    stock = method.startswith("peft")
    transformer: Any = adapt(twin(base), method)
    if size.recompute and stock:
        transformer.get_base_model().activation_checkpointing_enable({"use_reentrant": False})
    elif size.recompute:
        recompute_layers(transformer)
    # transformers computes layers twice in training mode alone; nothing here has dropout.
    model = SiteModel([adapter.to(device)], transformer, head.to(device)).train(stock)
    return SingleSite(
        name="gpu",  # of all methods: batches are drawn by it
        config=SiteConfig(modality="tabular", anchors="", secret=""),
        job=job,
        channels=(),
        data={"fit": LabelledTokens(tokens=tokens, targets=targets, concepts=[""] * samples)},
        pairs={},
        anchors=AnchorTokens(slots=(), tokens=tokens[:0], sha256=job.anchors.sha256),
        heldout=None,
        task=task,
        method=method_of(job),
        model=model,
        spec=ModelSpec(shapes={}, backbone="", width=width),
        optimizer=make_optimizer(model, job),
        initial={},
        groups={},
    )


def run(method: str, site: SingleSite) -> None:
    """Train for one run: fedgram's adapters by its own loop, stock ones by a plain loop."""
    if method.startswith("geo"):
        step.train(site, 1, STEPS)
        return
    for batch in site.batches(1, STEPS):
        with torch.autocast(site.device.type, torch.bfloat16):
            loss = site.task_loss(batch).loss
        site.optimizer.zero_grad()
        loss.backward()
        site.optimizer.step()


def trained(site: SingleSite) -> int:
    """The number of parameters of the transformer that train: B, with m in DoRA and with A in PEFT."""
    return sum(p.numel() for p in site.model.transformer.parameters() if p.requires_grad)


def peak_alone(method: str, base: nn.Module, size: Size, device: str) -> int:
    """The bytes at the peak of one run of a method that has the card to itself, frozen weights included."""
    site = open_local(method, base, size, device)
    forget_peak(device)
    run(method, site)
    return peak(device)


def measure(size: Size, precision: Precision, folder: str, device: str) -> list[dict[str, Any]]:
    """The rows of all methods on one model.

    Raises:
        BackboneError: the package that quantises is not installed.
        torch.OutOfMemoryError: the card is too small.
    """
    base = load_backbone(BackboneConfig("random"), {"random": folder}, precision, device)
    peaks = {method: peak_alone(method, base, size, device) for method in METHODS}
    sites = {method: open_local(method, base, size, device) for method in METHODS}
    runs = {method: partial(run, method, site) for method, site in sites.items()}
    seconds = interleaved(runs, device, ROUNDS if device == "cuda" else 1, BUDGET)
    return [
        {
            **label(size, precision, method),
            "trained": trained(site),
            "tokens_per_second": size.tokens / median(seconds[method]),
            "rounds": len(seconds[method]),
            "speed_vs_peft_lora": ratio(seconds["peft_lora"], seconds[method]),
            "speed_vs_peft_dora": ratio(seconds["peft_dora"], seconds[method]),
            "peak_bytes": peaks[method],
            "memory_vs_peft_lora": peaks[method] / peaks["peft_lora"],
            "memory_vs_peft_dora": peaks[method] / peaks["peft_dora"],
        }
        for method, site in sites.items()
    ]


def label(size: Size, precision: Precision, method: str) -> dict[str, Any]:
    """The columns by which a row is known."""
    return {"model": size.name, "weights": precision, "method": method}


def rows_of(size: Size, device: str) -> list[dict[str, Any]]:
    """The rows of one model in every precision; a row that could not be measured has ``missing``, the reason."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_random(size, folder, device)
        for precision in PRECISIONS:
            if device == "cuda":
                gc.collect()  # the model before, whose modules refer to each other
            try:
                rows += measure(size, precision, folder, device)
            except (FedgramError, torch.OutOfMemoryError) as problem:
                why = str(problem).splitlines()[0]
                rows += [{**label(size, precision, method), "missing": why} for method in METHODS]
    return rows


def report(rows: Sequence[Mapping[str, Any]], device: str) -> dict[str, Any]:
    """All rows with the card and the packages that they were measured with."""
    return {**facts(device), "rank": RANK, "goal": GOAL, "rows": list(rows)}


def table(rows: Iterable[Mapping[str, Any]], title: str) -> Table:
    """The rows for a reader."""
    columns = ("tokens/s", "/ LoRA", "/ DoRA", "peak GB", "/ LoRA", "trained")
    drawn = Table("model", "weights", "method", *columns, title=title)
    for row in rows:
        cells = ["–"] * len(columns)
        if "missing" not in row:
            cells = [f"{row['tokens_per_second']:,.0f}"]
            cells += [f"{row[f'speed_vs_{stock}']:.3f}" for stock in ("peft_lora", "peft_dora")]
            cells += [f"{row['peak_bytes'] / 1e9:.2f}", f"{row['memory_vs_peft_lora']:.3f}", f"{row['trained']:,}"]
        drawn.add_row(row["model"], row["weights"], row["method"], *cells)
    return drawn


def missing(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say why rows are missing."""
    return sorted({f"{r['model']}, {r['weights']}: missing: {r['missing']}" for r in rows if "missing" in r})


def missed(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """Say where fedgram misses the goal."""
    slow = [r for r in rows if r["method"].startswith("geo") and r.get("speed_vs_peft_lora", GOAL) < GOAL]
    return [f"{r['model']}, {r['weights']}, {r['method']}: below {GOAL} × PEFT LoRA's tokens/s" for r in slow]


def main() -> None:
    """Measure, print a table, write JSON after every model."""
    options, device = arguments(__doc__, ROOT / "results/gpu.json")
    rows: list[dict[str, Any]] = []
    for size in MINIATURE if options.miniature else CARD:
        rows += rows_of(size, device)
        options.out.write_text(json.dumps(report(rows, device), indent=1))
    Console(width=120).print(table(rows, f"card: {report(rows, device)['card']}"))
    print(*missing(rows), *([] if options.miniature else missed(rows)), options.out, sep="\n")


if __name__ == "__main__":
    main()
