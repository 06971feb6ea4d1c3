"""The shared transformer: any Hugging Face model that takes token embeddings (``inputs_embeds``).

That is an encoder, a causal language model without its head, or the language tower of a vision-language model,
which is loaded alone: the vision tower's weights are never read.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, Qwen2_5_VLConfig

from fedgram.config.job import BackboneConfig
from fedgram.config.site import Precision
from fedgram.errors import BackboneError
from fedgram.model.placement import is_as_saved, keep_differentiable, loading_options, stored_bytes
from fedgram.pretrained import LANGUAGE_TOWER, load_model, load_part, locate

# A BLIP3o checkpoint is one of Qwen2.5-VL with more parts, under model types of its own. Known here, so that a
# site of a single modality trains the same tower from the same folder as one with the whole model.
for _kind in ("blip3o_qwen", "blip3o_qwen_inference"):
    AutoConfig.register(_kind, type("Blip3oConfig", (Qwen2_5_VLConfig,), {"model_type": _kind}), exist_ok=True)

# Trained with full attention inside image and prompt (Beyer 2024, fig. 2); a site's tokens are all of that kind.
_PREFIX_ATTENTION = ("paligemma",)

# Of a configuration: what is larger is a slip, and would fill the memory or never end.
_MOST = {
    "num_hidden_layers": 2**12,
    "hidden_size": 2**18,
    "intermediate_size": 2**20,
    "num_attention_heads": 2**12,
    "vocab_size": 2**24,
}

_POSITIONS = ("position_embeddings", "embed_positions", "wpe")  # tables of learnt positions


def load_backbone(
    config: BackboneConfig, folders: Mapping[str, str], precision: Precision = "fp32", device: str = "cpu"
) -> nn.Module:
    """Load the frozen base of the shared transformer.

    Args:
        config: its name and how many layers to keep.
        folders: the site's own folder by backbone name; other names are hub ids or known packages.
        precision: of the weights.
        device: where they lie, or ``split``.

    Returns:
        The model without a head, in evaluation mode (no dropout), without gradients.

    Raises:
        BackboneError: it cannot be loaded, has too few layers, lacks weights or does not take ``inputs_embeds``.
    """
    where = f"backbone {config.name!r}"
    source, settings, names = _text_settings(config, folders)
    options = loading_options(precision, device, where)
    model = load_model(AutoModel, source, settings, where=where, error=BackboneError, key_mapping=names, **options)
    takes = inspect.signature(model.forward).parameters
    if "inputs_embeds" not in takes or "decoder_input_ids" in takes:
        raise BackboneError(
            f"{type(model).__name__} does not take inputs_embeds alone",
            where=where,
            expected="a transformer over token embeddings, encoder or causal",
        )
    keep_differentiable(model)
    return model


def positions(model: nn.Module) -> int | None:
    """The number of tokens that a transformer takes: of its position table or, where it has none, as trained.

    Tables of RoBERTa's kind leave out the first positions. None where the configuration sets no limit.
    """
    found: list[int | None] = [getattr(model.config, "max_position_embeddings", None)]
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.rpartition(".")[2] in _POSITIONS:
            offset: Any = getattr(module, "offset", 0)  # of OPT's and BART's tables
            unused = offset if module.padding_idx is None else module.padding_idx + 1
            found.append(module.num_embeddings - unused)
    return min(filter(None, found), default=None)


def require_positions(limit: int | None, config: BackboneConfig, length: int, tokenizer: str) -> None:
    """Refuse samples of more tokens than the backbone takes.

    Args:
        limit: its :func:`positions`.
        length: L, of a sample.
        tokenizer: that makes them, for the message.

    Raises:
        BackboneError: with both numbers.
    """
    if limit is not None and length > limit:
        raise BackboneError(
            f"{length} tokens a sample",
            where=f"tokenizer {tokenizer!r}",
            expected=f"at most {limit}, the positions of backbone {config.name!r}",
            remedy='take a tokenizer of fewer tokens (of a table "wide"), or ask for a backbone of more positions',
        )


def hollow_backbone(config: BackboneConfig, folders: Mapping[str, str]) -> nn.Module:
    """The shared transformer without its weights, from the configuration alone.

    Raises:
        BackboneError: as :func:`load_backbone`, as far as the configuration shows it.
    """
    _, settings, _ = _text_settings(config, folders)
    with torch.device("meta"):
        return AutoModel.from_config(settings, trust_remote_code=False)


def weight_bytes(config: BackboneConfig, folders: Mapping[str, str], precision: Precision) -> int:
    """The size of the frozen weights in memory, from the configuration alone: none is loaded.

    Raises:
        BackboneError: as :func:`load_backbone`, as far as the configuration shows it.
    """
    return stored_bytes(hollow_backbone(config, folders), precision)


def base_fingerprint(backbone: nn.Module, config: BackboneConfig, folders: Mapping[str, str]) -> str:
    """The :func:`fingerprint` of the checkpoint that a backbone was loaded from.

    Sites agree on a checkpoint, and each stores it as it can: one that has it in 4 bits trains with those that
    have it in full. Then the checkpoint is read once more.
    """
    return fingerprint(backbone if is_as_saved(backbone) else load_backbone(config, folders, "bf16"))


def checkpoint_settings(config: BackboneConfig, folders: Mapping[str, str]) -> tuple[str, Any, Any]:
    """Find where a checkpoint is loaded from and what its configuration is, cut to the layers that the job keeps.

    Returns:
        The source, the whole configuration, and its part for the transformer over text, which is all of it in a
        model of text alone.

    Raises:
        BackboneError: there is none, or it has too few layers.
    """
    where = f"backbone {config.name!r}"
    source = _source(config.name, folders, where)
    whole = load_part(AutoConfig, source, where=where, error=BackboneError)
    text = whole.get_text_config()
    for name, most in _MOST.items():
        size = getattr(text, name, None)
        if size is not None and not isinstance(size, list) and not (isinstance(size, int) and 0 < size <= most):
            raise BackboneError(f"{name} of its configuration", where=where, expected=f"1 … {most}")
    if config.layers is not None:
        if config.layers > text.num_hidden_layers:
            raise BackboneError(
                f"{config.layers} layers asked for", where=where, expected=f"≤ {text.num_hidden_layers}"
            )
        text.num_hidden_layers = config.layers
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[: config.layers]
    return source, whole, text


def _text_settings(config: BackboneConfig, folders: Mapping[str, str]) -> tuple[str, Any, dict[str, str] | None]:
    """Find where the model is loaded from and the configuration of its transformer over text.

    In a vision-language model that is the language tower's; how the tower's weights are renamed comes third.
    """
    source, whole, text = checkpoint_settings(config, folders)
    if whole.model_type in _PREFIX_ATTENTION:
        text.is_causal = False
        if getattr(text, "layer_types", None):  # a sliding window does not bound attention inside the prefix
            text.layer_types = ["full_attention"] * text.num_hidden_layers
    text.use_cache = False  # nothing is generated
    return source, text, None if text is whole else LANGUAGE_TOWER


def _source(name: str, folders: Mapping[str, str], where: str) -> str:
    """Resolve a job's backbone name at this site: to the site's own folder, a packaged model or a hub id.

    transformers would take ``org/name`` for a folder if one lies in the working directory. Which folders a job
    may read is for the site file alone to say, so such a name is refused.
    """
    if name in folders:
        folder = Path(folders[name])
        if not folder.is_dir():
            raise BackboneError(f"no folder {folder}", where=where, remedy="correct [backbones] in the site file")
        return str(folder)
    source = locate(name)
    if source == name and os.path.lexists(name):
        raise BackboneError(
            "a job cannot name a file or folder at a site, and one of this name lies in the working directory",
            where=where,
            expected="a hub id, a packaged model, or a name under [backbones] in the site file",
            remedy="map the name to a folder under [backbones] if this site agrees to it",
        )
    return source


def fingerprint(backbone: nn.Module) -> str:
    """The sha256 over names, shapes and values of the frozen weights, rounded to bf16.

    The rounding makes an fp32 and a bf16 copy of one checkpoint the same, and any other checkpoint different.
    """
    digest = sha256()
    for name, weight in sorted(backbone.named_parameters()):
        digest.update(f"{name}{tuple(weight.shape)}".encode())
        rounded = weight.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
