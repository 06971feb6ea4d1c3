"""A tiny Janus checkpoint in the published layout, with random weights."""

from __future__ import annotations

from pathlib import Path

import torch
from fedgram.pretrained import quiet_loading

from research.pretraining.checkpoint import Size, make_model, make_processor

WORDS = (
    "what",
    "colour",
    "is",
    "the",
    "red",
    "blue",
    "green",
    "square",
    "circle",
    "a",
    "photo",
    "of",
    "yes",
    "no",
)
TINY = Size(pixels=16, patch=4, vision=(24, 1), codes=24, channels=32, width=32, layers=2)


def save(folder: Path, *, size: Size = TINY, system_prompt: bool = False) -> str:
    """Write it; returns the folder."""
    torch.manual_seed(0)
    processor = make_processor(WORDS, size)
    processor.use_default_system_prompt = system_prompt
    model = make_model(processor.tokenizer, size)
    for name, weight in model.named_parameters():  # at the usual initial scale nothing depends on anything
        weight.data.mul_(6.0) if "layers" in name and weight.ndim > 1 else None
    with quiet_loading():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return str(folder)
