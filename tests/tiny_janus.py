"""A tiny Janus checkpoint in the published layout, with random weights: the embedded one, made smaller."""

from __future__ import annotations

from pathlib import Path

import torch
from fedgram.pretrained import locate, quiet_loading
from transformers import JanusConfig, JanusForConditionalGeneration, JanusProcessor
from transformers.generation import GenerationConfig

PIXELS, _PATCH, _WIDTH = 16, 4, 32
_TOKENS = (PIXELS // _PATCH) ** 2


def save(folder: Path, *, system_prompt: bool = False) -> str:
    """Write the checkpoint; returns the folder."""
    torch.manual_seed(0)
    source = locate("janus-shapes")
    processor = JanusProcessor.from_pretrained(source)
    processor.num_image_tokens = _TOKENS
    processor.image_processor.size = {"height": PIXELS, "width": PIXELS}
    processor.use_default_system_prompt = system_prompt
    model = JanusForConditionalGeneration(_small(JanusConfig.from_pretrained(source)))
    model.generation_config = GenerationConfig.from_pretrained(source, guidance_scale=5.0)
    for name, weight in model.named_parameters():  # at the usual initial scale nothing depends on anything
        weight.data.mul_(6.0) if "layers" in name and weight.ndim > 1 else None
    with quiet_loading():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
    return str(folder)


def _small(config: JanusConfig) -> JanusConfig:
    """The settings of a tower of two layers 32 wide, a vision tower of one, and a codebook of 24."""
    tower = {"hidden_size": _WIDTH, "intermediate_size": 88, "num_hidden_layers": 2}
    tower |= {"num_attention_heads": 1, "num_key_value_heads": 1}
    vision = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 1, "projection_dim": _WIDTH}
    vision |= {"image_size": PIXELS, "num_image_tokens": _TOKENS}
    codes = {"num_embeddings": 24, "projection_dim": _WIDTH, "image_token_embed_dim": _WIDTH}
    codes |= {"num_patches": PIXELS // _PATCH}
    for part, settings in (("text", tower), ("vision", vision), ("vq", codes)):
        for name, value in settings.items():
            setattr(getattr(config, f"{part}_config"), name, value)
    return config
