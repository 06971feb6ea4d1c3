"""The bytes that a site sends in a round: GeoDoRA against FedAvg-LoRA with trained A and the full model.

    python benchmarks/wire_bytes.py

The demo's backbone, and the shapes of Qwen2.5-VL-3B and Llama-3.1-8B on the ``meta`` device (no weights). GeoDoRA
is measured as FLARE serialises it; the alternatives are counted, in bf16 too. Last, what bf16 costs in precision:
‖bf16(ΔB) − ΔB‖ / ‖ΔB‖ of a Gaussian ΔB. Prints JSON.
"""

from __future__ import annotations

import json
from typing import Any

import torch
from fedgram.flare import wire
from fedgram.pretrained import locate
from fedgram.records import WIRE_DTYPE, SiteUpdate
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs
from torch import nn
from transformers import AutoConfig, AutoModel, LlamaConfig, PreTrainedConfig
from transformers.models.qwen2_5_vl import Qwen2_5_VLTextConfig

RANK, ANCHORS = 16, 24
QWEN: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
}
LLAMA: dict[str, Any] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
BACKBONES: dict[str, PreTrainedConfig] = {
    "MiniLM, 3 layers": AutoConfig.from_pretrained(locate("minilm"), num_hidden_layers=3),
    "Qwen2.5-VL-3B, language tower": Qwen2_5_VLTextConfig(**QWEN),
    "Llama-3.1-8B": LlamaConfig(**LLAMA),
}


def adapted(model: nn.Module) -> dict[str, tuple[int, int]]:
    """The (d_out, d_in) of the linear layers that ``all-linear`` adapts, by name."""
    return {
        name: (layer.out_features, layer.in_features)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Linear) and "pooler" not in name
    }


def update(shapes: dict[str, tuple[int, int]]) -> SiteUpdate:
    """The reply of a site with these layers."""
    metrics: dict[str, float] = {"loss": 0.5, "task_loss": 0.5, "cka": 0.5, "accuracy": 0.5, "seconds": 0.5}
    delta = {
        f"base_model.model.{k}": torch.zeros(d_out, RANK, dtype=WIRE_DTYPE) for k, (d_out, _) in shapes.items()
    }
    slots = tuple(range(ANCHORS))
    return SiteUpdate(
        site="hosp-genomics",
        round=1,
        anchors_sha256="f" * 64,
        delta_B=delta,
        m={},
        gram=torch.eye(ANCHORS),
        slots=slots,
        weight=4.2,
        samples=360,
        metrics=metrics,
    )


def serialised(model: FLModel) -> int:
    """The bytes of a reply as FLARE serialises it."""
    fobs.register(TensorDecomposer)
    return len(fobs.dumps(FLModelUtils.to_shareable(model)))


def measure(config: PreTrainedConfig) -> dict[str, float]:
    """The bytes and ratios for one backbone."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    shapes = adapted(model)
    sent = serialised(wire.encode_reply(update(shapes)))
    tensors = 2 * RANK * sum(d_out for d_out, _ in shapes.values()) + 4 * ANCHORS**2
    lora = 2 * RANK * sum(d_out + d_in for d_out, d_in in shapes.values())
    full = 2 * sum(p.numel() for p in model.parameters())
    return {
        "sent": sent,
        "over B in bf16 + G": round(sent / tensors, 4),
        "FedAvg-LoRA, A trained": lora,
        "full model": full,
        "GeoDoRA / FedAvg-LoRA": round(sent / lora, 3),
        "GeoDoRA / full model": round(sent / full, 5),
    }


def rounding() -> float:
    """The relative Frobenius error of a Gaussian matrix in WIRE_DTYPE."""
    delta = torch.randn(4096, RANK, generator=torch.Generator().manual_seed(0))
    return ((delta.to(WIRE_DTYPE).float() - delta).norm() / delta.norm()).item()


if __name__ == "__main__":
    report: dict[str, object] = {name: measure(config) for name, config in BACKBONES.items()}
    print(json.dumps({**report, "rounding of ΔB to bf16": round(rounding(), 5)}, indent=1, ensure_ascii=False))
