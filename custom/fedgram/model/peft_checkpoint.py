"""An adapter as a stock PEFT checkpoint, written without a model or PEFT at hand: the server has neither."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fedgram.core.dora import frozen_a
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors, write_text
from fedgram.model.lora import check_shapes, plain_copy

PREFIX = "base_model.model."  # of PEFT, before the path of a module


def save_adapter(
    folder: str | Path,
    *,
    B: Mapping[str, Tensor],
    m: Mapping[str, Tensor],
    shapes: Mapping[str, tuple[int, int, int]],
    seed: int,
    rank: int,
    alpha: float,
    base_model: str,
    A: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a stock PEFT checkpoint without having the model: A is rebuilt from the seed.

    The files replace those of an earlier checkpoint one by one, each at once, so that a reader never sees half a
    file. Other files in the folder stay.

    Args:
        B: by layer name.
        m: by layer name: a DoRA checkpoint; or empty: a LoRA checkpoint.
        shapes: (d_out, r, d_in) by layer name, as `spec` gives them.
        A: by layer name, where it has been trained; those not given are rebuilt from the seed.
        base_model: the name or path that PEFT records as ``base_model_name_or_path``.

    Raises:
        CheckpointError: `B` or `m` does not fit `shapes`, or `shapes` does not have rank `rank`.
    """
    for name, shape in shapes.items():
        if shape[1] != rank or not name.startswith(PREFIX):
            raise CheckpointError(f"shape {shape}", where=name, expected=f"rank {rank}, a name in {PREFIX}")
    check_shapes({name: (d_out, r) for name, (d_out, r, _) in shapes.items()}, B, "B")
    if m:
        check_shapes({name: (d_out,) for name, (d_out, _, _) in shapes.items()}, m, "m")
    frozen = {name: frozen_a(seed, name, r, d_in) for name, (_, r, d_in) in shapes.items()}
    check_shapes({name: tuple(a.shape) for name, a in frozen.items() if name in (A or {})}, A or {}, "A")
    tensors = {f"{name}.lora_A.weight": a for name, a in {**frozen, **(A or {})}.items()}
    tensors |= {f"{name}.lora_B.weight": plain_copy(b) for name, b in B.items()}
    tensors |= {f"{name}.lora_magnitude_vector": plain_copy(scale) for name, scale in m.items()}
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "peft_type": "LORA",
        "base_model_name_or_path": base_model,
        "r": rank,
        "lora_alpha": alpha,
        # Full module paths: whatever suffixes the job targeted, these are the layers that were adapted.
        "target_modules": sorted(name.removeprefix(PREFIX) for name in shapes),
        "lora_dropout": 0.0,
        "bias": "none",
        "use_dora": bool(m),
        "inference_mode": True,
    }
    write_text(folder / "adapter_config.json", json.dumps(settings, indent=2))
    write_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})
