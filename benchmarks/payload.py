"""Bytes of a round for BLIP3o-4B and -8B: adapters against full fine-tuning, up (a site sends) and down (it gets).

    python benchmarks/payload.py [figure.png]

From settings alone, on the ``meta`` device. The settings are Qwen2.5-VL's as published, and those of BLIP3o's code
(:mod:`fedgram.model.unified.blip3o`): no checkpoint holds the diffusion transformer's. The adapted layers are
those that :func:`fedgram.model.lora.spec` names. Counted are tensors as fedgram sends them: a change in bf16 up,
the state in float32 down (m in float32 both ways); a full model in bf16 both ways, as its checkpoint is. What
comes besides, G and the consensus (4 b² bytes for b anchors) and FLARE's envelope, is left out:
``benchmarks/wire_bytes.py`` measures 0.2 % for it. Prints tables in Markdown.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from fedgram.model import lora
from fedgram.model.attaching import attach
from fedgram.model.unified.blip3o.head import HEAD_TARGETS, PictureHead
from fedgram.records import WIRE_DTYPE
from matplotlib.figure import Figure
from torch import nn
from transformers import Qwen2_5_VLTextModel
from transformers.models.qwen2_5_vl import Qwen2_5_VLTextConfig

RANKS = (4, 8, 16, 32, 64)
TOWER_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
_VOCABULARY = 151_668  # Qwen2.5's tokens and the three that BLIP3o adds
_TEXT: dict[str, dict[str, Any]] = {
    "BLIP3o-4B": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "BLIP3o-8B": {
        "hidden_size": 3584,
        "intermediate_size": 18944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "tie_word_embeddings": False,
    },
}
_HEAD: dict[str, int] = {
    "queries": 64,
    "channels": 1792,
    "hidden": 1792,
    "layers": 24,
    "heads": 28,
    "key_heads": 28,
    "inner": 4864,
}
MODELS = tuple(_TEXT)

Shapes = Mapping[str, tuple[int, int, int]]
_UP, _DOWN = WIRE_DTYPE.itemsize, torch.float32.itemsize


@dataclass(frozen=True)
class Payload:
    """The bytes of one round and site."""

    up: int
    down: int

    @property
    def both(self) -> int:
        return self.up + self.down


def low_rank(shapes: Shapes, rank: int) -> Payload:
    """The bytes of GeoLoRA, FFA-LoRA, and GeoDoRA with private m: A is rebuilt from a seed and B alone travels."""
    count = rank * sum(d_out for d_out, _, _ in shapes.values())
    return Payload(_UP * count, _DOWN * count)


def low_rank_with_m(shapes: Shapes, rank: int) -> Payload:
    """The bytes of GeoDoRA with averaged m."""
    b, m = low_rank(shapes, rank), _DOWN * sum(d_out for d_out, _, _ in shapes.values())
    return Payload(b.up + m, b.down + m)


def lora_with_a(shapes: Shapes, rank: int) -> Payload:
    """The bytes of FedAvg on LoRA ("fedit"): A and B travel."""
    count = rank * sum(d_out + d_in for d_out, _, d_in in shapes.values())
    return Payload(_UP * count, _DOWN * count)


WAYS: dict[str, Callable[[Shapes, int], Payload]] = {
    "LoRA, A and B": lora_with_a,
    "frozen A, B alone": low_rank,
    "GeoDoRA, B and m": low_rank_with_m,
}


def full(parameters: int) -> Payload:
    """The bytes of full fine-tuning: every weight in bf16, there and back."""
    return Payload(_UP * parameters, _UP * parameters)


@cache
def parts(name: str) -> dict[str, tuple[Shapes, int]]:
    """The adapted layers (at rank 1) and the number of weights of tower, head, and both.

    The tower's weights are those of its layers with embeddings and output; the head's, query tokens and diffusion
    transformer. The frozen encoders and the decoder would not travel in full fine-tuning either.
    """
    settings = Qwen2_5_VLTextConfig(vocab_size=_VOCABULARY, **_TEXT[name])
    with torch.device("meta"):
        tower = Qwen2_5_VLTextModel(settings)
        head = PictureHead(width=settings.hidden_size, **_HEAD)
    output = 0 if _TEXT[name]["tie_word_embeddings"] else _VOCABULARY * settings.hidden_size
    found = {
        "tower": (_adapted(tower, TOWER_TARGETS), _count(tower) + output),
        "head": (_adapted(head, HEAD_TARGETS), _count(head)),
    }
    joint = {f"{part}.{k}": v for part, (shapes, _) in found.items() for k, v in shapes.items()}
    return {**found, "tower and head": (joint, sum(count for _, count in found.values()))}


def _count(model: nn.Module) -> int:
    return sum(p.numel() for name, p in model.named_parameters() if "lora_" not in name)


def _adapted(model: nn.Module, targets: tuple[str, ...]) -> Shapes:
    return lora.spec(attach(model, rank=1, alpha=1.0, targets=targets, dora=False, seed=0))


def table(name: str, part: str) -> str:
    """A table in Markdown: MB by rank and way, and how many times less that is than full fine-tuning."""
    shapes, parameters = parts(name)[part]
    whole = full(parameters)
    lines = [
        f"**{name}, {part}**: {parameters / 1e9:.2f} billion weights, {len(shapes)} adapted layers; full "
        f"fine-tuning {whole.up / 1e6:,.0f} MB up and {whole.down / 1e6:,.0f} MB down.",
        "",
        "| rank | | MB up | MB down | full / up | full / down | full / both |",
        "|---:|---|---:|---:|---:|---:|---:|",
    ]
    for rank in RANKS:
        for way, count in WAYS.items():
            sent = count(shapes, rank)
            ratios = (whole.up / sent.up, whole.down / sent.down, whole.both / sent.both)
            cells = [f"{sent.up / 1e6:.1f}", f"{sent.down / 1e6:.1f}", *(f"{r:,.0f}" for r in ratios)]
            lines.append(f"| {rank} | {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(path: Path) -> None:
    """Draw the bytes of a round, there and back, over ranks; a tenth of full fine-tuning is marked."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(MODELS), sharey=True), MODELS, strict=True):
        shapes, parameters = parts(name)["tower and head"]
        whole = full(parameters).both / 1e6
        axes.axhline(whole, color="black", label="full fine-tuning")
        axes.axhline(whole / 10, color="black", linestyle=":", label="a tenth of it")
        for way, count in WAYS.items():
            axes.plot(RANKS, [count(shapes, rank).both / 1e6 for rank in RANKS], marker="o", label=way)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(RANKS, [str(rank) for rank in RANKS])
        axes.set(title=f"{name}, tower and head", xlabel="rank")
        axes.legend(fontsize=8)
    figure.axes[0].set_ylabel("MB a round and site, up and down")
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    print("\n\n".join(table(name, part) for name in MODELS for part in parts(name)))
    if len(sys.argv) > 1:
        draw(Path(sys.argv[1]))
