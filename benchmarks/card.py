"""What the benchmarks of a GPU have in common: their command line, and with what they were measured."""

from __future__ import annotations

import argparse
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from fedgram.sites.device import choose_device


def arguments(description: str | None, out: Path) -> tuple[argparse.Namespace, str]:
    """The command line, ``miniature`` and ``out``, and the device: a GPU, or in miniature the CPU too."""
    parser = argparse.ArgumentParser(description=(description or "").split("\n")[0])
    parser.add_argument("--miniature", action="store_true", help="models of width 64, also without a GPU")
    parser.add_argument("--out", type=Path, default=out)
    options = parser.parse_args()
    device = choose_device("auto").type
    if device == "cpu" and not options.miniature:
        parser.error("there is no GPU here; --miniature tries everything on the CPU")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    return options, device


def facts(device: str) -> dict[str, Any]:
    """The card, and the packages that count."""
    name = torch.cuda.get_device_name() if device == "cuda" else "none, CPU"
    return {"card": name, "packages": {package: version(package) for package in ("torch", "transformers", "peft")}}
