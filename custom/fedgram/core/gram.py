"""Gram matrices over the anchors (Eklund 2026, eq. 1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedgram.errors import FedgramError


def cosine_gram(z: Tensor) -> Tensor:
    """The Gram matrix of cosines, G_ij = cos(z_i, z_j), eq. (1).

    Args:
        z: (N, d) representations.

    Returns:
        (N, N), dtype of ``z`` but at least float32 (rounding to bfloat16 alone would fail ``check_gram``);
        symmetric, unit diagonal, in [−1, 1], positive semi-definite. A zero row has
        cosine 0 to everything, itself included.

    Raises:
        FedgramError: ``z`` is not a matrix.

    Laws: invariant to ``z @ Q`` for orthogonal Q and to positive scaling of any row.
    """
    if z.ndim != 2:
        raise FedgramError(f"representations of shape {tuple(z.shape)}", expected="a matrix (N, d)")
    unit = normalize(z.to(torch.promote_types(z.dtype, torch.float32)), dim=-1)
    return unit @ unit.T


def check_gram(gram: Tensor, *, tolerance: float = 1e-3) -> str | None:
    """Say what keeps ``gram`` from being a matrix of cosines, or return None when nothing does.

    A Gram that arrives from a site is checked before it counts: square, finite, symmetric, unit diagonal,
    within [−1, 1] and positive semi-definite, each up to ``tolerance`` (per anchor for the eigenvalues).
    """
    if gram.ndim != 2 or gram.shape[0] != gram.shape[1] or len(gram) == 0:
        return f"Gram of shape {tuple(gram.shape)} is not square, or empty"
    largest = gram.abs().max().item()
    if not math.isfinite(largest):
        return "Gram has entries that are not finite"
    if (skew := (gram - gram.T).abs().max().item()) > tolerance:
        return f"Gram is not symmetric (largest difference {skew:.3g})"
    if (off := (gram.diagonal().double() - 1).abs().max().item()) > tolerance:
        return f"Gram has no unit diagonal (off by {off:.3g})"
    if largest > 1 + tolerance:
        return f"Gram has an entry of size {largest:.3g}, outside [-1, 1]"
    allowed = tolerance * len(gram)
    shifted = gram.float().clone()
    shifted.diagonal().add_(allowed)
    if torch.linalg.cholesky_ex(shifted).info.item():  # a third of the time of the eigenvalues, at 2,048 anchors
        return f"Gram is not positive semi-definite (an eigenvalue below -{allowed:.3g})"
    return None
