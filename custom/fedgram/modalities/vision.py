"""Images through any frozen vision encoder of transformers: DINOv3, DINOv2, SigLIP, CLIP, ViT and CNNs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoImageProcessor
from transformers.image_processing_backends import PilBackend
from transformers.utils.import_utils import is_torchvision_available

from fedgram.data.pixels import Picture, open_image
from fedgram.errors import ConfigError
from fedgram.modalities.hf import hash_weights, load_for, load_vision_encoder
from fedgram.records import Tokens

_ANY = 64  # pixels: a processor brings them to what its encoder takes


class PatchEncoder:
    """Last hidden states of a vision encoder, over images as its checkpoint's processor prepares them.

    Tokens are the patches in reading order, after the [CLS] token of encoders that have one: it is what the
    pre-training made a summary of the image. Register tokens are left out, as their authors do (Darcet 2024): the
    encoder keeps notes in them that say nothing about a place in the image. A checkpoint of two towers (SigLIP,
    CLIP) gives its vision tower; its pooling head is left out, for the shared transformer pools.

    Args:
        name: hub id or folder.
    """

    def __init__(self, name: str):
        self._processor = _processor(name)
        self._model = load_vision_encoder(name)
        self._registers: int = getattr(self._model.config, "num_register_tokens", 0)
        self.identity = f"hf-vision:2:{self._processor.to_json_string()}:{hash_weights(self._model)}"

    def to(self, device: torch.device) -> None:
        """Compute on this device from now on."""
        self._model.to(device)

    @cached_property
    def width(self) -> int:
        """The width of a token, seen from one: settings of CNNs do not say it, or say that of another layer."""
        return self._tokens([Image.new("RGB", (_ANY, _ANY))]).values.shape[-1]

    def __call__(self, contents: Sequence[Picture]) -> Tokens:
        return self._tokens([open_image(picture) for picture in contents])

    @torch.no_grad()
    def _tokens(self, images: Sequence[Image.Image]) -> Tokens:
        batch = self._processor(images=[*images], return_tensors="pt")
        batch["pixel_values"] = batch["pixel_values"].to(self._model.dtype)
        hidden: Tensor = self._model(**batch.to(self._model.device)).last_hidden_state.float().cpu()
        if hidden.dim() == 4:  # the map of a CNN (N, C, H, W)
            hidden = hidden.flatten(2).transpose(1, 2).contiguous()
        if self._registers:  # [CLS], registers, patches
            hidden = torch.cat([hidden[:, :1], hidden[:, 1 + self._registers :]], dim=1)
        present = batch.get("pixel_attention_mask")  # SigLIP 2 pads images of different shapes
        mask = torch.ones(hidden.shape[:2]) if present is None else present.cpu()
        return Tokens(hidden, mask.bool())

    def place(self, mask: np.ndarray) -> np.ndarray:
        nearest = {"resample": Image.Resampling.NEAREST, "do_rescale": False, "do_normalize": False}
        image = Image.fromarray(mask).convert("RGB")
        placed = self._processor(images=image, return_tensors="np", **nearest)["pixel_values"]
        if placed.ndim != 4:
            raise ConfigError(
                "this encoder keeps no square map of the image", where="tokenizer", expected="a fixed image size"
            )
        return placed[0, 0].astype(np.uint8)


class _Dinov3Pixels(PilBackend):
    """The steps of DINOv3's own processor (resize, rescale, normalise), which needs torchvision.

    It differs by the rounding to 8 bits after the resize.
    """


def _processor(name: str) -> Any:
    kind = AutoImageProcessor
    if not is_torchvision_available() and load_for(AutoConfig, name).model_type == "dinov3_vit":
        kind = _Dinov3Pixels
    return load_for(kind, name)
