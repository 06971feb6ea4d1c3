"""EVA-CLIP's vision tower (Sun et al. 2023), whose frozen features BLIP3o learns to make.

A vision transformer with the norm after each sub-layer's output, x + norm(f(x)), and without a norm at its end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isqrt

import numpy as np
import torch
from PIL.Image import Image, Resampling
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, gelu, scaled_dot_product_attention
from transformers.utils.constants import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

from fedgram.errors import BackboneError
from fedgram.model.unified.blip3o.layout import fill

_HEAD_WIDTH = 112  # of eva-clip-E-14-plus; everything else is seen from the weights
_EPS = 1e-6


class _Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        split = self.qkv(x).unflatten(-1, (3, -1, _HEAD_WIDTH))  # (N, L, 3, heads, head width)
        q, k, v = split.permute(2, 0, 3, 1, 4)
        return self.proj(scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class _Mlp(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(gelu(self.fc1(x)))


class _Block(nn.Module):
    def __init__(self, width: int, inner: int):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=_EPS), nn.LayerNorm(width, eps=_EPS)
        self.attn, self.mlp = _Attention(width), _Mlp(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm1(self.attn(x))
        return x + self.norm2(self.mlp(x))


class _PatchEmbedding(nn.Module):
    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)


class EvaClip(nn.Module):
    """The frozen EVA-CLIP tower; its parameters have the names of the published ones.

    Args:
        width: c, of its features; ``inner``: of its feed-forward layers.
        depth: number of layers.
        patch: side of a patch, in pixels; ``side``: of the picture, in patches.
        pooling: side of the squares of features that are averaged to one.
    """

    def __init__(self, width: int, inner: int, depth: int, patch: int, side: int, pooling: int):
        super().__init__()
        self.side, self.pooling, self.pixels = side, pooling, side * patch
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, side**2 + 1, width))
        self.patch_embed = _PatchEmbedding(width, patch)
        self.blocks = nn.ModuleList(_Block(width, inner) for _ in range(depth))

    @torch.no_grad()
    def forward(self, images: Sequence[Image]) -> Tensor:
        """Features of the largest square in the middle of each picture, (N, T, c), float32, in reading order."""
        pixels = np.stack([_square(image, self.pixels) for image in images])
        values = (pixels / 255.0 - np.array(OPENAI_CLIP_MEAN)) / np.array(OPENAI_CLIP_STD)
        x = self.patch_embed(torch.from_numpy(values).permute(0, 3, 1, 2).to(self.pos_embed))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        grid = x[:, 1:].transpose(1, 2).unflatten(2, (self.side, self.side))
        return avg_pool2d(grid.float(), self.pooling).flatten(2).transpose(1, 2).contiguous()


def eva_clip(tensors: Mapping[str, Tensor], pooling: int, where: str) -> EvaClip:
    """Build the tower that these weights belong to.

    Raises:
        BackboneError: the weights are not those of such a tower.
    """
    try:
        width, _, _, patch = tensors["patch_embed.proj.weight"].shape
        inner = tensors["blocks.0.mlp.fc1.weight"].shape[0]
        places = tensors["pos_embed"].shape[1] - 1
    except KeyError as missing:
        raise BackboneError(f"no weights {missing}", where=where, expected="those of EVA-CLIP-E/14+") from None
    depth = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blocks."))
    side = isqrt(places)
    if side**2 != places or side % pooling or width % _HEAD_WIDTH:
        raise BackboneError(
            f"{places} places, pooled by {pooling}, of width {width}",
            where=where,
            expected=f"a square of places whose side {pooling} divides, and a multiple of {_HEAD_WIDTH}",
        )
    with torch.device("meta"):
        tower = EvaClip(width, inner, depth, patch, side, pooling)
    fill(tower, tensors, where)
    return tower.requires_grad_(False).eval()


def _square(image: Image, side: int) -> np.ndarray:
    """Cut the middle out of a picture whose shorter side gets that many pixels, (side, side, 3)."""
    image = image.convert("RGB")
    shorter = min(image.size)
    width, height = (side * length // shorter for length in image.size)
    left, top = (round((length - side) / 2) for length in (width, height))
    image = image.resize((width, height), Resampling.BICUBIC)
    return np.asarray(image.crop((left, top, left + side, top + side)))
