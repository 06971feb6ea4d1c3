"""Latent anchor proximity and the precision weight of a site (Eklund 2026, eq. 6)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedgram.errors import FedgramError

LapVariant = Literal["centered", "paper"]

U_MIN = 0.01  # 1/u is unbounded next to an anchor


def anchor_proximity(z: Tensor, anchors: Tensor, variant: LapVariant = "centered") -> Tensor:
    """The distance of samples from the anchors, u(x_i) = ½ (1 − max_j cos(z_i, z_aj)), eq. (6).

    ``paper`` is eq. (6) as printed; a collapsed site, where everything has cosine 1, then gets u → 0 and
    would win. ``centered`` first subtracts the anchor mean from samples and anchors; where nothing is left
    to compare (collapse) the cosine is 0 and u = ½, the value of an unrelated sample.

    Args:
        z: (N, d) samples.
        anchors: (B, d) anchors of the same model.
        variant: whether to centre.

    Returns:
        (N,) in [0, 1].

    Raises:
        FedgramError: widths differ, no anchors, unknown variant.
    """
    if z.ndim != 2 or anchors.ndim != 2 or z.shape[1] != anchors.shape[1] or len(anchors) == 0:
        raise FedgramError(
            f"samples of shape {tuple(z.shape)}, anchors of shape {tuple(anchors.shape)}",
            expected="(N, d) and (B, d), B ≥ 1",
        )
    if variant == "centered":
        scale = anchors.norm(dim=-1).mean()
        z, anchors = (_without_rounding(t - anchors.mean(0), scale) for t in (z, anchors))
    elif variant != "paper":
        raise FedgramError(f"unknown variant {variant!r} of anchor proximity", expected="centered | paper")
    nearest = (normalize(z, dim=-1) @ normalize(anchors, dim=-1).T).amax(dim=1)
    return (0.5 * (1 - nearest)).clamp(0.0, 1.0)


def _without_rounding(difference: Tensor, scale: Tensor) -> Tensor:
    """Zero the rows that are nothing but rounding error of the subtraction: they have no direction.

    NaN stays NaN: a diverged site must not pass for an unrelated one.
    """
    noise = 16 * torch.finfo(difference.dtype).eps * scale
    return torch.where(difference.norm(dim=-1, keepdim=True) <= noise, 0.0, difference)


def precision(u: Tensor, u_min: float = U_MIN) -> float:
    """The precision p_k before normalisation: the mean of 1/u over a site's samples, u clipped to [u_min, 1].

    The mean, as the paper's text says; the sum of its formula would also weight by data size.

    Args:
        u: (N,) anchor proximities.
        u_min: lower clip of u; the mean lies in [1, 1/u_min].

    Raises:
        FedgramError: no samples, values that are not finite, u_min outside (0, 1].
    """
    if u.ndim != 1 or len(u) == 0:
        raise FedgramError(f"anchor proximities of shape {tuple(u.shape)}", expected="(N,), N ≥ 1")
    if not torch.isfinite(u).all():
        raise FedgramError("anchor proximities that are not finite")
    if not 0 < u_min <= 1:
        raise FedgramError(f"u_min = {u_min}", expected="0 < u_min ≤ 1")
    return (1.0 / u.double().clamp(u_min, 1.0)).mean().item()
