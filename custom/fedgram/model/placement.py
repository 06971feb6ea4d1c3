"""Storage and placement of the frozen base: precision, quantisation, several GPUs."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from fedgram.config.site import SPLIT, Precision
from fedgram.errors import BackboneError

_BYTES = {"fp32": 4.0, "bf16": 2.0, "int8": 1.0, "nf4": 0.516}  # of a weight; nf4 with its doubly quantised scales


def loading_options(precision: Precision, device: str, where: str) -> dict[str, Any]:
    """The options of `from_pretrained` for a precision and a device.

    int8 is LLM.int8 (Dettmers 2022) and nf4 the double quantisation of QLoRA (Dettmers 2023); both compute in
    bf16, and both come from bitsandbytes. A ``split`` base is spread by accelerate over the GPUs that are there,
    and what does not fit lies in the machine's memory.

    Raises:
        BackboneError: bitsandbytes is asked for and not installed.
    """
    options: dict[str, Any] = {"dtype": torch.float32 if precision == "fp32" else torch.bfloat16}
    if precision in ("int8", "nf4"):
        options["quantization_config"] = _quantisation(precision, where)
    if device == SPLIT:
        options["device_map"] = "auto"
    elif "quantization_config" in options or torch.device(device).type != "cpu":
        options["device_map"] = {"": device}
    return options


def _quantisation(precision: Precision, where: str) -> Any:
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise BackboneError(
            f"precision {precision!r} needs the package bitsandbytes",
            where=where,
            remedy="pip install 'fedgram[quantised]', or another precision in the site file",
        )
    # It says at every step that it computes in fp16 what it is given in bf16.
    logging.getLogger("bitsandbytes.autograd._functions").setLevel(logging.ERROR)
    if precision == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )


def keep_differentiable(model: nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights for inference on the CPU, which has no backward pass.

    It does so in the first pass without gradients; from then on gradients would be wrong without an error.
    """
    modules: Iterator[Any] = model.modules()
    for module in modules:
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_as_saved(model: nn.Module) -> bool:
    """Whether the model's weights are those of its checkpoint, up to their precision, and can be read."""
    quantised = getattr(model, "is_quantized", False) or any(not p.is_floating_point() for p in model.parameters())
    return not quantised and not any(p.is_meta for p in model.parameters())


def stored_bytes(model: nn.Module, precision: Precision) -> int:
    """The size of a model's weights in that precision; quantisation takes only its linear layers."""
    linear = sum(m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear))
    rest = sum(p.numel() for p in model.parameters()) - linear
    return round(linear * _BYTES[precision] + rest * max(2.0, _BYTES[precision]))
