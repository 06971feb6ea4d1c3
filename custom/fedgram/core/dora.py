"""GeoLoRA and GeoDoRA: low-rank updates whose A is frozen and never sent (Eklund 2026, eq. 4 and 5).

Symbols: W: (d_out, d_in) frozen base weight; A: (r, d_in) frozen; B: (d_out, r); m: (d_out,); s = alpha / r;
c = m / ‖W + s B A‖_row: (d_out,), the *scale* of a layer, absent in GeoLoRA.

Because A never changes, the row norm of DoRA needs two small constants and no pass over W; see `row_norm`.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

SMALLEST_NORM = 1e-19  # its square is the smallest normal float32


def frozen_a(seed: int, name: str, rank: int, d_in: int) -> Tensor:
    """The frozen A of one layer, A_ij ~ N(0, 1/d_in): (rank, d_in), float32, on the CPU.

    Anyone rebuilds it from the seed, the layer's PEFT name and its shape, so it is never sent. With this variance
    E[A Aᵀ] = I, hence E‖B A‖² = ‖B‖²: the norm of B, which is what travels, is the norm of the update.

    Law: a pure function of its arguments; it neither reads nor moves torch's global random state.
    """
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    # Drawn in float64 and rounded, because the float32 sampler differs in its last bit between CPU generations.
    draw = torch.randn(rank, d_in, generator=generator, dtype=torch.float64)
    return (draw / math.sqrt(d_in)).float()


@dataclass(frozen=True)
class NormConstants:
    """W and A in r + 1 orthogonal coordinates, float32 whatever the dtype of W. With A = T Qᵀ, Q orthonormal:

    Attributes:
        base: [W Q, ‖W − W Q Qᵀ‖_row]ᵀ, (r + 1, d_out): each row inside the row space of A, and its length outside.
        mixing: [T, 0]ᵀ, (r + 1, r): the rows of A, which have no part outside.
    """

    base: Tensor
    mixing: Tensor


@torch.no_grad()
def norm_constants(weight: Tensor, a: Tensor) -> NormConstants:
    """Compute the constants of `row_norm`, once for all steps; weight: (d_out, d_in), a: (r, d_in)."""
    weight = weight.float()
    q, t = torch.linalg.qr(a.double().T)
    q, t = q.float(), t.T.float()
    inside = weight @ q
    outside = torch.linalg.vector_norm(torch.addmm(weight, inside, q.T, alpha=-1), dim=1).clamp_min(SMALLEST_NORM)
    return NormConstants(torch.cat([inside.T, outside[None]]), nn.functional.pad(t.T, (0, 0, 0, 1)))


@torch.no_grad()
def row_norm(b: Tensor, s: float, constants: NormConstants) -> Tensor:
    """The row norms ‖W + s B A‖_row: (d_out,), in O(d_out r²), whatever d_in.

    B A moves a row of W only inside the row space of A, where r coordinates describe it; outside, the row keeps
    its length. So the norm is that of [W Q + s B T, ‖W − W Q Qᵀ‖]. Expanding the square into
    ‖W‖² + 2s B·WAᵀ + s² B AAᵀ·B costs the same, but loses half of the digits when s B A cancels W; this sum has no
    negative terms.

    A constant to autograd: Liu et al. 2024 (DoRA), section 4.3, "treating ‖V + ΔV‖_c in Eq. (5) as a constant,
    thereby detaching it from the gradient graph".

    Law: equal to the dense norm, to float32 rounding of ‖W‖_row. A row that is exactly zero gets a tiny norm
    instead of 0, so that m / norm is 0 for m = 0.
    """
    rows = torch.addmm(constants.base, constants.mixing, b.T, alpha=s)
    return rows.square_().sum(0).sqrt_()


def merged_weight(weight: Tensor, a: Tensor, b: Tensor, s: float, scale: Tensor | None) -> Tensor:
    """Merge: c ⊙ (W + s B A), eq. (5); W + s B A, eq. (4), without a scale: (d_out, d_in) in the dtype of W."""
    update = torch.addmm(weight.float(), b.float(), a.float(), alpha=s)
    return (update if scale is None else update * scale[:, None]).to(weight.dtype)


def unmerged_weight(merged: Tensor, a: Tensor, b: Tensor, s: float, scale: Tensor | None) -> Tensor:
    """Recover the W of which `merged` is the `merged_weight`, to rounding; a row of scale 0 comes back as 0."""
    update = merged.float()
    if scale is not None:
        update = torch.where(scale[:, None] == 0, 0, update / scale[:, None])
    return torch.addmm(update, b.float(), a.float(), alpha=-s).to(merged.dtype)


def adapt_output(z: Tensor, x: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, s: float, scale: Tensor | None):
    """Adapt a base layer's output z = x Wᵀ + bias to y = c ⊙ (z − bias + s (x Aᵀ) Bᵀ) + bias.

    For a W that is not at hand as a dense tensor (4- and 8-bit bases): nothing is dequantised here.

    Args:
        z: (..., d_out), sets the dtype of the result.
        x: (..., d_in); bias: (d_out,) or None; scale: c, (d_out,), or None for GeoLoRA.
    """
    dtype = z.dtype
    low = nn.functional.linear(x.to(dtype), a.to(dtype))
    if scale is None:
        return z + nn.functional.linear(low, (s * b).to(dtype))
    unbiased = z if bias is None else z - bias
    update = nn.functional.linear(low, (s * scale[:, None] * b).to(dtype))
    # c is near 1: in low precision c − 1 keeps its digits where c does not.
    return torch.addcmul(z, unbiased, (scale - 1).to(dtype)) + update


def adapted_linear(
    x: Tensor, weight: Tensor, bias: Tensor | None, a: Tensor, b: Tensor, s: float, scale: Tensor | None
) -> Tensor:
    """Apply the adapted layer, y = c ⊙ (x Wᵀ + s (x Aᵀ) Bᵀ) + bias, eq. (5); c = 1, eq. (4), without a scale.

    Differentiable in x, B and c; W, A and bias are frozen. The gradient of c is read off the output,
    Σ_t g ⊙ (y − bias) / c, so that neither x nor the unscaled output is kept for the backward. Hence y must not be
    changed in place, and where c = 0 exactly that gradient is 0 (in PEFT, too, if the row of W is 0).

    Args:
        x: (..., d_in); weight: (d_out, d_in) of the same dtype, or any dtype under autocast; bias: (d_out,).
        a: (r, d_in), b: (d_out, r), scale: (d_out,); float32, cast to the dtype of x for the products.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))
    return _AdaptedLinear.apply(x, weight, bias, a, b, s, scale)


def _rescale(z: Tensor, scale: Tensor, bias: Tensor | None, out: Tensor) -> Tensor:
    """Rescale in one pass, out = c ⊙ z + bias; two in low precision, where c − 1 keeps the digits that c loses."""
    if z.dtype == scale.dtype:
        return torch.mul(z, scale, out=out) if bias is None else torch.addcmul(bias, z, scale, out=out)
    torch.addcmul(z, z, (scale - 1).to(z.dtype), out=out)
    return out if bias is None else out.add_(bias)


class _AdaptedLinear(torch.autograd.Function):
    """The autograd function of `adapted_linear`.

    Passes over (tokens, d_out) are what an adapter costs; each is made once, in place."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, a, b, s, scale) -> Tensor:
        dtype, rows = x.dtype, x.reshape(-1, x.shape[-1])
        dense, bias = weight.to(dtype), None if bias is None else bias.to(dtype)
        low = rows @ a.to(dtype).T
        if scale is None:
            y = rows @ dense.T if bias is None else torch.addmm(bias, rows, dense.T)
            y.addmm_(low, b.to(dtype).T, alpha=s)
        else:
            y = rows @ dense.T
            _rescale(y, scale, bias, out=y).addmm_(low, (b * scale[:, None]).to(dtype).T, alpha=s)
        y = y.view(*x.shape[:-1], -1)
        kept = y if ctx.needs_input_grad[6] else None
        ctx.s, ctx.dtype = s, dtype
        ctx.save_for_backward(weight, bias, a, b, scale, low if ctx.needs_input_grad[4] else None, kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor):  # pyrefly: ignore[bad-override]  # torch takes any number
        weight, bias, a, b, scale, low, y = ctx.saved_tensors
        shape, dtype, s = grad.shape, ctx.dtype, ctx.s
        g = grad.reshape(-1, shape[-1])
        spare = g if scale is None else torch.empty_like(g)
        grad_scale = None if y is None or scale is None else _grad_scale(g, y.reshape_as(g), bias, scale, spare)
        grad_b = grad_x = None
        if low is not None:
            grad_b = (low.T @ g).T.to(b.dtype).mul_(s if scale is None else (s * scale)[:, None])
        if ctx.needs_input_grad[0]:
            # (c ⊙ g) reuses the buffer that held g ⊙ y.
            g = g if scale is None else _rescale(g, scale, None, out=spare)
            grad_x = g @ weight.to(dtype)
            grad_x.addmm_(g @ b.to(dtype), a.to(dtype), alpha=s)
            grad_x = grad_x.view(*shape[:-1], -1)
        return grad_x, None, None, None, grad_b, None, grad_scale


def _column_sums(z: Tensor, dtype: torch.dtype) -> Tensor:
    """Sum columns, Σ_t z_t, in `dtype`. A matrix product reads z faster than a reduction along its long stride."""
    return z.new_ones(len(z)) @ z if z.dtype == dtype else z.sum(0, dtype=dtype)


def _grad_scale(g: Tensor, y: Tensor, bias: Tensor | None, scale: Tensor, spare: Tensor) -> Tensor:
    """The gradient ∂/∂c = Σ_t g ⊙ (y − bias) / c: (d_out,). `spare` is overwritten."""
    total = _column_sums(torch.mul(g, y, out=spare), scale.dtype)
    if bias is not None:
        total -= _column_sums(g, scale.dtype) * bias
    return torch.where(scale == 0, 0, total / scale)
