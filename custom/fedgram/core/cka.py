"""Centered kernel alignment between two Gram matrices (Eklund 2026, eq. 2; Kornblith et al. 2019)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from fedgram.errors import FedgramError

CkaVariant = Literal["paper", "centered", "debiased"]

_ROUNDING = 16  # a centred Gram below this many units of rounding of the Gram carries no geometry


def center(gram: Tensor) -> Tensor:
    """Centre a Gram matrix as Kornblith et al. 2019 do (biased): H K H with H = I − 11ᵀ/n, (n, n) → (n, n)."""
    return gram - gram.mean(0, keepdim=True) - gram.mean(1, keepdim=True) + gram.mean()


def u_center(gram: Tensor) -> Tensor:
    """U-centre a Gram (Székely & Rizzo 2014): inner products become the unbiased HSIC of Song et al. 2012.

    K̃ is K without its diagonal; Ũ_ij = K̃_ij − Σ_i/(n−2) − Σ_j/(n−2) + Σ/((n−1)(n−2)), Ũ_ii = 0.
    (n, n) → (n, n); n ≥ 4.
    """
    n = gram.shape[0]
    hollow = gram - torch.diag(gram.diagonal())
    rows = hollow.sum(1) / (n - 2)
    centred = hollow - rows[:, None] - rows[None, :] + hollow.sum() / ((n - 1) * (n - 2))
    return centred - torch.diag(centred.diagonal())


_CENTRINGS = {"paper": lambda gram: gram, "centered": center, "debiased": u_center}


def cka(x: Tensor, y: Tensor, variant: CkaVariant = "debiased") -> Tensor:
    """Compute CKA(X, Y) = ⟨X', Y'⟩ / (‖X'‖_F ‖Y'‖_F), eq. (2), where X' is the centred Gram.

    ``paper`` does not centre, as eq. (2) is printed: a collapsed (all-ones) Gram then scores near 1, so it
    serves reproduction only. ``centered`` is Kornblith et al. 2019, biased upwards when d ≫ n. ``debiased``
    has expectation 0 for unrelated representations and may be slightly negative.

    Args:
        x: (n, n) Gram matrix.
        y: (n, n) Gram matrix over the same anchors.
        variant: which centring.

    Returns:
        Scalar, at most 1; 0, with zero gradient, when either centred Gram vanishes up to rounding (a
        collapsed representation).

    Raises:
        FedgramError: shapes differ or are not square, unknown variant, n < 4 for ``debiased``.

    Laws: cka(x, y) = cka(y, x); cka(x, x) = 1; invariant to scaling of either Gram and to one permutation
    of the anchors in both.
    """
    if x.ndim != 2 or x.shape[0] != x.shape[1] or x.shape != y.shape:
        raise FedgramError(
            f"Gram matrices of shape {tuple(x.shape)} and {tuple(y.shape)}", expected="equal squares"
        )
    if variant not in _CENTRINGS:
        raise FedgramError(f"unknown CKA variant {variant!r}", expected=" | ".join(get_args(CkaVariant)))
    if variant == "debiased" and x.shape[0] < 4:
        raise FedgramError(f"debiased CKA over {x.shape[0]} anchors", expected="at least 4 anchors")
    centred_x, centred_y = _CENTRINGS[variant](x), _CENTRINGS[variant](y)
    inner = (centred_x * centred_y).sum()
    if _vanishes(centred_x, x) or _vanishes(centred_y, y):
        return inner * 0.0  # keeps the graph; the norm has no gradient at 0, and only noise just above it
    return inner / centred_x.norm() / centred_y.norm()


def _vanishes(centred: Tensor, gram: Tensor) -> bool:
    """Whether all that centring left is the rounding error of the Gram itself."""
    return bool(centred.norm() <= _ROUNDING * torch.finfo(gram.dtype).eps * gram.norm())
