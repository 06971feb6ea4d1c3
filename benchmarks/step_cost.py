"""The time and peak memory of a GeoDoRA training step against stock PEFT LoRA and stock PEFT DoRA.

    python benchmarks/step_cost.py [--device cuda] [--quick]

One step is forward + backward through Llama-shaped blocks, adapters of the same rank on the same (all linear)
layers, dropout 0, A trainable in PEFT as it is by default. The input requires grad, as it does above a trainable
adapter, so the backward reaches every layer. Times are medians of ratios within rounds A B C A B C …, so that a
busy machine slows all three alike. Memory is what a step adds to the built model at its peak: on the CPU the peak
resident set of a process of its own for each method, on CUDA the allocator's peak. The last line is JSON.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import torch
from fedgram.model.attaching import attach, quiet_peft
from peft import LoraConfig, PeftModel, get_peft_model
from rich.console import Console
from rich.table import Table
from torch import nn
from transformers import LlamaConfig, LlamaModel

METHODS = ("peft_lora", "peft_dora", "geo_dora")
RANK = 16
LAYERS = {512: 4, 1024: 4, 2048: 2}
TOKENS = (256, 2048)


def build(method: str, width: int, device: str) -> nn.Module:
    """Llama blocks of one width with the adapters of one method; the same base weights for all."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=width * 11 // 4,
        num_hidden_layers=LAYERS[width],
        num_attention_heads=width // 64,
        num_key_value_heads=width // 64,
        vocab_size=32,
    )
    with torch.device(device):
        base = LlamaModel(config)
    return adapt(base, method)


def adapt(base: nn.Module, method: str) -> PeftModel:
    """Put adapters on all linear layers: ``geo_lora``, ``geo_dora``, ``peft_lora`` or ``peft_dora``."""
    dora = method.endswith("dora")
    if method.startswith("geo"):
        return attach(base, rank=RANK, alpha=2 * RANK, targets="all-linear", dora=dora, seed=0)
    stock = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", lora_dropout=0.0, use_dora=dora)
    with quiet_peft():
        return get_peft_model(base, stock)


def step(model: nn.Module, x: torch.Tensor, direction: torch.Tensor) -> None:
    """Go forward and backward; gradients stay allocated from one step to the next, as in training."""
    model.zero_grad(set_to_none=False)
    x.grad = None
    (model(inputs_embeds=x).last_hidden_state * direction).sum().backward()


def inputs(width: int, tokens: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch of sequences of 128 tokens, and the direction of the loss."""
    shape = (tokens // 128, 128, width)
    return torch.randn(shape, device=device, requires_grad=True), torch.randn(shape, device=device)


def times(width: int, tokens: int, device: str, rounds: int) -> dict[str, float]:
    """The time of GeoDoRA over that of each stock method: median over rounds."""
    models = {method: build(method, width, device) for method in METHODS}
    x, direction = inputs(width, tokens, device)
    seconds = interleaved(
        {name: partial(step, model, x, direction) for name, model in models.items()}, device, rounds
    )
    ratios = {
        f"time_vs_{stock}": ratio(seconds["geo_dora"], seconds[stock]) for stock in ("peft_lora", "peft_dora")
    }
    return ratios | {"seconds": median(seconds["geo_dora"])}


def interleaved(
    runs: Mapping[str, Callable[[], object]], device: str, rounds: int, budget: float = math.inf
) -> dict[str, list[float]]:
    """Seconds of each run in rounds A B C A B C …; a first round warms up.

    Args:
        budget: seconds after which no further round begins, once three are there.
    """
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + budget
    for done in range(rounds + 1):
        if done > 3 and time.perf_counter() > end:
            break
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if device == "cuda":
                torch.cuda.synchronize()
            if done:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def ratio(seconds: Sequence[float], others: Sequence[float]) -> float:
    """The median over rounds of one run's seconds over another's."""
    return median(a / b for a, b in zip(seconds, others, strict=True))


def peak_bytes(method: str, width: int, tokens: int, device: str) -> int:
    """The bytes that two steps add, at their peak, to the built model."""
    model = build(method, width, device)
    x, direction = inputs(width, tokens, device)
    before = forget_peak(device)
    for _ in range(2):
        step(model, x, direction)
    return peak(device) - before


def forget_peak(device: str) -> int:
    """Begin to watch for the peak of memory; the bytes in use now."""
    if device == "cuda":
        gc.collect()  # modules that refer to each other hold tensors until then
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak(device: str) -> int:
    """The most bytes in use since `forget_peak`: the allocator's on CUDA, on the CPU the process's."""
    return torch.cuda.max_memory_allocated() if device == "cuda" else resident("VmHWM")


def resident(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def memory(width: int, tokens: int, device: str) -> float:
    """The peak memory of GeoDoRA over that of PEFT LoRA, each in its own process."""
    peaks = []
    for method in ("geo_dora", "peft_lora"):
        command = [sys.executable, __file__, "--device", device, "--peak", f"{method}x{width}x{tokens}"]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        peaks.append(int(output.splitlines()[-1]))
    return peaks[0] / peaks[1]


def main() -> None:
    """Measure, print a table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--quick", action="store_true", help="width 512 only, few rounds")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peak:
        method, width, tokens = args.peak.split("x")
        print(peak_bytes(method, int(width), int(tokens), args.device))
        return
    table = Table("width x tokens", "time / LoRA", "time / DoRA", "seconds", "memory / LoRA")
    figures = {}
    for width in (512,) if args.quick else LAYERS:
        for tokens in TOKENS:
            rounds = 3 if args.quick else max(5, 60 * 512 * 256 // (width * tokens))
            row = times(width, tokens, args.device, rounds)
            row["memory_vs_peft_lora"] = memory(width, tokens, args.device)
            figures[f"{width}x{tokens}"] = {key: round(value, 4) for key, value in row.items()}
            table.add_row(f"{width}x{tokens}", *(f"{value:.3f}" for value in row.values()))
    Console().print(table)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
