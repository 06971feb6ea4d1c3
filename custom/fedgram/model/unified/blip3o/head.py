"""BLIP3o's picture head, from the tower's states to features: latent query tokens and a diffusion transformer.

The transformer is Lumina-Next's (diffusers' ``LuminaNextDiT2DModel``), and BLIP3o puts a projection before it:
from the tower's states at the query tokens to what the layers attend to.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from fedgram.errors import BackboneError
from fedgram.model.unified.blip3o.layout import fill

PLACES = 64  # features of a picture, 8 × 8: BLIP3o's code fixes it and no settings say it

# The linear layers of its blocks, for an adapter.
HEAD_TARGETS = (
    "to_q",
    "to_k",
    "to_v",
    "to_out.0",
    "feed_forward.linear_1",
    "feed_forward.linear_2",
    "feed_forward.linear_3",
)


class PictureHead(nn.Module):
    """The velocity v(x_σ, σ, z): (N, T, c), times (N,) and states (N, Q, d) → (N, T, c); T = 64, in reading order.

    Attributes:
        queries: the latent query tokens, (Q, d), which follow a prompt into the tower.
        channels: c.

    Args:
        queries: Q; ``width``: d.
        channels: c; the transformer reads and writes one feature at each place.
        hidden: its width, ``layers`` its depth, ``heads`` and ``key_heads`` of its attention, ``inner`` of its
            feed-forward layers.

    Raises:
        BackboneError: diffusers is not installed.
    """

    def __init__(
        self,
        *,
        queries: int,
        width: int,
        channels: int,
        hidden: int,
        layers: int,
        heads: int,
        key_heads: int,
        inner: int,
    ):
        super().__init__()
        projection, transformer, self._turns = _diffusers()
        self.channels, self._head_width = channels, hidden // heads
        self.queries = nn.Parameter(torch.zeros(queries, width))
        self.caption_projection = projection(in_features=width, hidden_size=hidden)
        self.transformer = transformer(
            sample_size=1,  # only written down: any size is read
            patch_size=1,
            in_channels=channels,
            hidden_size=hidden,
            num_layers=layers,
            num_attention_heads=heads,
            num_kv_heads=key_heads,
            multiple_of=inner,  # diffusers rounds 8/3 · hidden up to a multiple of this
            learn_sigma=False,
            qk_norm=True,
            cross_attention_dim=hidden,
        )
        del self.transformer.pad_token  # diffusers never uses it, and BLIP3o has none

    def forward(self, x: Tensor, times: Tensor, states: Tensor) -> Tensor:
        side, dtype = isqrt(PLACES), self.queries.dtype
        if x.shape[1:] != (PLACES, self.channels):
            raise BackboneError(
                f"features of shape {tuple(x.shape)}",
                where="BLIP3o's diffusion transformer",
                expected=f"(N, {PLACES}, {self.channels})",
                remedy="the features of another encoder may still be in a cache",
            )
        # Made anew: a buffer of complex numbers would lose its imaginary part when a model is cast.
        turns = self._turns(self._head_width, side, side).to(x.device)
        velocity = self.transformer(
            hidden_states=x.to(dtype).transpose(1, 2).unflatten(2, (side, side)),
            timestep=times,
            encoder_hidden_states=self.caption_projection(states.to(dtype)),
            encoder_mask=torch.ones(states.shape[:2], device=x.device),
            image_rotary_emb=turns,
            cross_attention_kwargs={},
            return_dict=False,
        )[0]
        return velocity.flatten(2).transpose(1, 2)


def picture_head(queries: Tensor, tensors: Mapping[str, Tensor], where: str) -> PictureHead:
    """Build the head that these weights belong to; its sizes come from them: BLIP3o's settings do not say them.

    Args:
        queries: (1, Q, d), as published.
        tensors: of the denoiser, by their published names without the prefix.

    Raises:
        BackboneError: diffusers is not installed, or the weights are not those of such a head.
    """
    try:
        hidden, channels = tensors["patch_embedder.proj.weight"].shape
        heads = tensors["layers.0.gate"].shape[0]
        key_width = tensors["layers.0.attn1.to_k.weight"].shape[0]
        inner = tensors["layers.0.feed_forward.linear_1.weight"].shape[0]
        width = tensors["caption_projection.linear_1.weight"].shape[1]
    except KeyError as missing:
        raise BackboneError(f"no weights {missing}", where=where, expected="a Lumina-Next denoiser") from None
    if queries.dim() != 3 or queries.shape[0] != 1 or queries.shape[2] != width:
        raise BackboneError(
            f"query tokens of shape {tuple(queries.shape)}", where=where, expected=f"(1, Q, {width})"
        )
    with torch.device("meta"):
        head = PictureHead(
            queries=queries.shape[1],
            width=width,
            channels=channels,
            hidden=hidden,
            layers=1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("layers.")),
            heads=heads,
            key_heads=key_width * heads // hidden,
            inner=inner,
        )
    fill(head, {"queries": queries[0], **{_own_name(name): tensor for name, tensor in tensors.items()}}, where)
    return head.requires_grad_(False).eval()


def _own_name(published: str) -> str:
    """The name of a weight here: BLIP3o has the projection inside its copy of the transformer."""
    return published if published.startswith("caption_projection.") else f"transformer.{published}"


def _diffusers() -> tuple[Any, Any, Any]:
    """Import from diffusers, which is installed only where pictures are generated."""
    try:
        from diffusers.models.embeddings import PixArtAlphaTextProjection, get_2d_rotary_pos_embed_lumina
        from diffusers.models.transformers.lumina_nextdit2d import LuminaNextDiT2DModel
    except ImportError as problem:
        raise BackboneError(
            "diffusers is not installed", where="BLIP3o", remedy="pip install 'fedgram[diffusion]'"
        ) from problem
    return PixArtAlphaTextProjection, LuminaNextDiT2DModel, get_2d_rotary_pos_embed_lumina
