"""Frozen Hugging Face encoders, by hub id or folder: the code that images, text, DNA and audio share."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import torch
from torch import nn

from fedgram.errors import DataError
from fedgram.pretrained import LANGUAGE_TOWER, load_model, load_part

_FLOAT32_PARAMETERS = 1_000_000_000  # larger encoders run in the precision of their checkpoint


def load_for(kind: Any, name: str) -> Any:
    """Load a processor, tokenizer or configuration of an encoder, with a typed error where that fails."""
    return load_part(kind, name, where=f"tokenizer {name!r}", error=DataError)


def load_language_encoder(name: str) -> Any:
    """Load a text or DNA encoder (that of an encoder-decoder, too), a headless language model, or a tower."""
    from transformers import AutoConfig, AutoModel

    whole = load_for(AutoConfig, name)
    if hasattr(whole, "alibi_starting_size"):  # calls itself a BERT
        from fedgram.modalities.mosaic_bert import MosaicBertModel

        return _load(MosaicBertModel, name, whole)
    text = whole.get_text_config()
    return _load(AutoModel, name, text, key_mapping=None if text is whole else LANGUAGE_TOWER)


def load_vision_encoder(name: str) -> Any:
    """Load a vision encoder, or the vision tower of a checkpoint of two towers (CLIP, SigLIP)."""
    from transformers import AutoConfig, AutoModel, ViTConfig, ViTModel

    whole = load_for(AutoConfig, name)
    if whole.model_type == "vit_mae":  # its own class hides three patches of four, and others in every pass
        return _load(ViTModel, name, load_for(ViTConfig, name))
    return _load(AutoModel, name, getattr(whole, "vision_config", whole))


def load_audio_encoder(name: str) -> Any:
    """Load an audio encoder, or the encoder of an encoder-decoder (Whisper)."""
    from transformers import AutoConfig, AutoModel

    settings = load_for(AutoConfig, name)
    for masked in ("mask_time_prob", "mask_feature_prob"):  # of training; checkpoints lack the mask's vector
        if hasattr(settings, masked):
            setattr(settings, masked, 0.0)
    return _load(AutoModel, name, settings)


def _load(kind: Any, name: str, settings: Any, **options: Any) -> Any:
    model = load_model(kind, name, settings, where=f"tokenizer {name!r}", error=DataError, dtype="auto", **options)
    model = model.float() if model.num_parameters() <= _FLOAT32_PARAMETERS else model
    return model.get_encoder() if settings.is_encoder_decoder else model


def hash_weights(model: nn.Module) -> str:
    """The sha256 over names, shapes and values of all parameters and buffers."""
    digest = sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
