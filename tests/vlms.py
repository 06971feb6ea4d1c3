"""Small vision-language checkpoints, one of each family whose language tower can be the shared transformer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as t
from torch import nn

_TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_VISION = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
}
_IDS = {"image_token_id": 7, "video_token_id": 8, "vision_start_token_id": 9, "vision_end_token_id": 10}


def smolvlm() -> nn.Module:
    text, ids = {"model_type": "llama", **_TEXT}, {"image_token_id": 7, "pad_token_id": 0}
    config = t.SmolVLMConfig(text_config=text, vision_config=_VISION, scale_factor=2, **ids)
    return t.SmolVLMForConditionalGeneration(config)


def idefics3() -> nn.Module:
    text, ids = {"model_type": "llama", **_TEXT}, {"image_token_id": 7, "pad_token_id": 0}
    config = t.Idefics3Config(text_config=text, vision_config=_VISION, scale_factor=2, **ids)
    return t.Idefics3ForConditionalGeneration(config)


def _qwen_text(sections: list[int]) -> dict[str, Any]:
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}
    return {**_TEXT, "head_dim": 8, "rope_parameters": rope}


def qwen2_5_vl() -> nn.Module:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "depth": 1,
        "num_heads": 2,
        "out_hidden_size": 32,
        "fullatt_block_indexes": [0],
    }
    config = t.Qwen2_5_VLConfig(text_config=_qwen_text([2, 1, 1]), vision_config=vision, **_IDS)
    return t.Qwen2_5_VLForConditionalGeneration(config)


def qwen3_vl() -> nn.Module:
    vision = {
        "hidden_size": 16,
        "intermediate_size": 24,
        "depth": 1,
        "num_heads": 2,
        "out_hidden_size": 32,
        "num_position_embeddings": 16,
        "deepstack_visual_indexes": [0],
    }
    config = t.Qwen3VLConfig(text_config=_qwen_text([2, 1, 1]), vision_config=vision, **_IDS)
    return t.Qwen3VLForConditionalGeneration(config)


def _paligemma(kind: str, **text: Any) -> nn.Module:
    vision = {"model_type": "siglip_vision_model", **_VISION, "vision_use_head": False}
    config = t.PaliGemmaConfig(
        text_config={"model_type": kind, **_TEXT, "head_dim": 8, **text},
        vision_config=vision,
        image_token_index=7,
        projection_dim=32,
        hidden_size=32,
        vocab_size=40,
    )
    return t.PaliGemmaForConditionalGeneration(config)


def paligemma() -> nn.Module:
    return _paligemma("gemma")


def paligemma2() -> nn.Module:
    return _paligemma("gemma2", sliding_window=4)


def _llava(config: type, model: type, kind: str) -> nn.Module:
    text, vision = {"model_type": kind, **_TEXT}, {"model_type": "clip_vision_model", **_VISION}
    return model(config(text_config=text, vision_config=vision, image_token_index=7))


def llava() -> nn.Module:
    return _llava(t.LlavaConfig, t.LlavaForConditionalGeneration, "llama")


def llava_next() -> nn.Module:
    return _llava(t.LlavaNextConfig, t.LlavaNextForConditionalGeneration, "mistral")


def llava_onevision() -> nn.Module:
    return _llava(t.LlavaOnevisionConfig, t.LlavaOnevisionForConditionalGeneration, "qwen2")


FAMILIES: dict[str, Callable[[], nn.Module]] = {
    make.__name__: make
    for make in (
        smolvlm,
        idefics3,
        qwen2_5_vl,
        qwen3_vl,
        paligemma,
        paligemma2,
        llava,
        llava_next,
        llava_onevision,
    )
}


def save(family: str, folder: Path) -> str:
    """Write a checkpoint with random weights, norms included, so that a norm left out would be seen."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.3 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return str(folder)
