"""The sizes of a unified model from its configuration and the headers of its files: no weight is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from fedgram.config.job import BackboneConfig
from fedgram.config.site import Precision
from fedgram.model.backbone import checkpoint_settings, weight_bytes
from fedgram.model.placement import stored_bytes
from fedgram.model.unified.loading import kind_of


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The sizes of a unified model's parts.

    Attributes:
        parts: bytes of weights by part: tower, vision encoder, generation head, and with BLIP3o two more.
        seen: bytes that ``see`` gives for a picture, float32.
    """

    parts: Mapping[str, int]
    seen: int

    @property
    def weights(self) -> int:
        """The bytes of all weights."""
        return sum(self.parts.values())


def sizes(config: BackboneConfig, folders: Mapping[str, str], precision: Precision) -> Sizes:
    """The sizes of the unified model that a job names.

    Raises:
        BackboneError: as :func:`fedgram.model.unified.loading.load_unified`, as far as the files' headers show it.
    """
    measure = _janus if kind_of(config, folders) == "janus" else _blip3o
    return measure(config, folders, precision)


def _janus(config: BackboneConfig, folders: Mapping[str, str], precision: Precision) -> Sizes:
    from transformers import JanusForConditionalGeneration

    _, settings, _ = checkpoint_settings(config, folders)
    with torch.device("meta"):
        model = JanusForConditionalGeneration(settings)
    inside, eye = model.model, settings.vision_config
    rest: Precision = "fp32" if precision == "fp32" else "bf16"
    heads = ("vqmodel", "generation_embeddings", "generation_aligner", "generation_head")
    return Sizes(
        parts={
            "tower": stored_bytes(inside.language_model, precision) + stored_bytes(model.lm_head, rest),
            "vision encoder": sum(stored_bytes(part, rest) for part in (inside.vision_model, inside.aligner)),
            "generation head": sum(stored_bytes(getattr(inside, name), rest) for name in heads),
        },
        seen=4 * eye.hidden_size * (eye.image_size // eye.patch_size) ** 2,
    )


def _blip3o(config: BackboneConfig, folders: Mapping[str, str], precision: Precision) -> Sizes:
    from fedgram.model.unified.blip3o import decoder, layout, model

    folder, each = Path(folders[config.name]), 4 if precision == "fp32" else 2
    found, apart = layout.open_layout(folder), folders.get(model.CLIP_WEIGHTS)
    clip = each * found.numbers(layout.CLIP)
    return Sizes(
        parts={
            "tower": weight_bytes(config, folders, precision) + each * found.numbers(layout.HEAD),
            "vision encoder": each * found.numbers(layout.VISION),
            "generation head": each * (found.numbers(layout.QUERIES) + found.numbers(layout.DENOISER)),
            "encoder of targets": clip or (_on_disk(Path(apart), "*.bin") if apart else 0),
            "decoder of pictures": _on_disk(folder / decoder.FOLDER, "*/*.safetensors"),
        },
        seen=4 * checkpoint_settings(config, folders)[2].hidden_size * model.TOKENS,
    )


def _on_disk(folder: Path, pattern: str) -> int:
    return sum(path.stat().st_size for path in folder.expanduser().glob(pattern))
