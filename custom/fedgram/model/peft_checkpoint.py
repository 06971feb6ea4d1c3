"""An adapter as a stock PEFT checkpoint: written without a model at hand, and merged into a base."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from peft import LoraConfig, PeftModel
from torch import Tensor, nn

from fedgram.core.dora import frozen_a
from fedgram.errors import CheckpointError
from fedgram.files import read_tensors, write_tensors
from fedgram.model.lora import PREFIX, check_shapes, geo_config, plain_copy, quiet_peft


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
    # Full module paths: whatever suffixes the job targeted, these are the layers that were adapted.
    targets = sorted(name.removeprefix(PREFIX) for name in shapes)
    config = geo_config(rank=rank, alpha=alpha, targets=targets, dora=bool(m))
    config.base_model_name_or_path, config.inference_mode = base_model, True
    _write(Path(folder), config, tensors)


def _write(folder: Path, config: LoraConfig, tensors: Mapping[str, Tensor]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as temporary:
        config.save_pretrained(temporary)
        Path(temporary, "adapter_config.json").replace(folder / "adapter_config.json")
    write_tensors(folder / "adapter_model.safetensors", tensors, {"format": "pt"})


def merge_checkpoint(backbone: nn.Module, folder: str | Path) -> nn.Module:
    """Merge a PEFT checkpoint into the backbone's weights by stock PEFT: W + s B A, with m and norm for DoRA.

    Raises:
        CheckpointError: a file of it is missing or damaged. PEFT itself would ask the hub for it.
    """
    remedy = "copy the whole result folder again"
    path = Path(folder, "adapter_config.json")
    try:
        json.loads(path.read_text(encoding="utf-8"))["peft_type"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"no adapter ({type(error).__name__})", where=path, remedy=remedy) from None
    read_tensors(path.with_name("adapter_model.safetensors"), remedy)
    with quiet_peft():
        return PeftModel.from_pretrained(backbone, str(folder)).merge_and_unload()
