"""DP-SGD over groups (Abadi et al. 2016; McMahan et al. 2018, of users): who takes part, clipping, noise.

Neighbouring data differ in one group, whose samples are there or not ("zero-out": Kairouz et al. 2021, section 2);
how many groups there are is no secret. Each function is one step of the mechanism, with shapes; what a given noise
amounts to in (ε, δ) is :mod:`fedgram.sites.accountant`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def poisson_sample(uniform: Tensor, rate: float) -> Tensor:
    """The groups that take part in a step, each by itself with probability ``rate``: indices, ascending.

    Args:
        uniform: (K,) in (0, 1), one of each group.
        rate: q; all take part with 1.
    """
    return (uniform < rate).nonzero()[:, 0]


def box_muller(uniform: Tensor) -> Tensor:
    """Standard normal numbers by the transform of Box and Muller 1958: (2n,) uniform in (0, 1) → (2n,)."""
    radius = (-2.0 * uniform[0::2].log()).sqrt()
    angle = 2.0 * math.pi * uniform[1::2]
    return torch.cat([radius * angle.cos(), radius * angle.sin()])


def clip_factors(norms: Tensor, clip: float) -> Tensor:
    """The factors min(1, C / ‖g_k‖) of groups; 0 where a gradient is not finite, so that it has no part at all.

    Args:
        norms: (K,) of the gradients of all that trains, together.
        clip: C.
    """
    factors = (clip / norms.clamp_min(torch.finfo(norms.dtype).tiny)).clamp(max=1.0)
    return torch.where(norms.isfinite(), factors, 0.0)


def part_factors(gradients: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    """The factors of groups by name, (K,) each: every part of P is shortened by itself, to C / √P.

    So all of it together is at most C long, and none drowns the others: the gradient of W_m is some twenty times
    that of B (per-layer clipping, McMahan et al. 2018, section 3.1).

    Args:
        gradients: (K, …) by ``<part>.<name>``.
        clip: C.
    """
    norms: dict[str, list[Tensor]] = {}
    for name, g in gradients.items():
        norms.setdefault(name.partition(".")[0], []).append(
            torch.linalg.vector_norm(g.flatten(1), dim=1, dtype=torch.float64)
        )
    whole = {part: torch.stack(own).norm(dim=0) for part, own in norms.items()}
    factors = {part: clip_factors(norm, clip / len(whole) ** 0.5) for part, norm in whole.items()}
    return {name: factors[name.partition(".")[0]] for name in gradients}


def clipped_sum(gradients: Mapping[str, Tensor], clip: float) -> dict[str, Tensor]:
    """The sum over groups of their clipped gradients: (K, …) → (…), by name; see :func:`part_factors`.

    Law: the norm of each term over all names together is at most C, up to rounding.
    """
    found = {}
    for name, factors in part_factors(gradients, clip).items():
        kept = factors.nonzero()[:, 0]  # 0 · inf is no 0
        found[name] = torch.tensordot(factors[kept].to(gradients[name]), gradients[name][kept], dims=1)
    return found


def noised_mean(total: Tensor, normal: Tensor, multiplier: float, clip: float, expected: float) -> Tensor:
    """The private mean gradient (Σ_k clip(g_k) + σ C ξ) / E, in float64.

    The divisor is the number of groups that is expected, q K: how many there were is private.

    Args:
        total: Σ_k clip(g_k), (…).
        normal: ξ, standard normal, as many numbers.
        multiplier: σ.
        clip: C.
        expected: E.
    """
    return (total.double() + multiplier * clip * normal.to(total.device).view_as(total)) / expected


def weight_gradients(x: Tensor, g: Tensor, sizes: Sequence[int]) -> Tensor:
    """The gradient of W in y = x Wᵀ for each group of samples, Σ_t g_t x_tᵀ over its own: (K, d_out, d_in).

    Args:
        x: (N, …, d_in) inputs, samples of a group after one another.
        g: (N, …, d_out) gradients of y.
        sizes: of the K groups; they sum to N.
    """
    pairs = zip(x.float().split(list(sizes)), g.float().split(list(sizes)), strict=True)
    return torch.stack([go.flatten(0, -2).T @ xo.flatten(0, -2) for xo, go in pairs])


def row_gradients(g: Tensor, sizes: Sequence[int]) -> Tensor:
    """The gradient of b in y = x Wᵀ + b for each group of samples: (K, d_out), as in :func:`weight_gradients`."""
    return torch.stack([part.flatten(0, -2).sum(0) for part in g.float().split(list(sizes))])


def magnitude_gradients(g: Tensor, y: Tensor, bias: Tensor | None, m: Tensor, sizes: Sequence[int]) -> Tensor:
    """The gradient of m in y = m / ‖V‖ ⊙ (x Vᵀ) + bias for each group, Σ_t g_t ⊙ (y_t − bias) / m: (K, d_out).

    It is 0 where m is 0, as in :func:`fedgram.core.dora.adapted_linear`.

    Args:
        g, y: (N, …, d_out).
        bias, m: (d_out,).
        sizes: as in :func:`weight_gradients`.
    """
    unbiased = y.float() if bias is None else y.float() - bias.float()
    return torch.where(m == 0, 0.0, row_gradients(g.float() * unbiased, sizes) / m)
