"""Gram matrices over the anchors (Eklund 2026, eq. 1)."""

from __future__ import annotations

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
    gram = gram.double()
    if not torch.isfinite(gram).all():
        return "Gram has entries that are not finite"
    if (gram - gram.T).abs().max() > tolerance:
        return f"Gram is not symmetric (largest difference {(gram - gram.T).abs().max():.3g})"
    if (gram.diagonal() - 1).abs().max() > tolerance:
        return f"Gram has no unit diagonal (off by {(gram.diagonal() - 1).abs().max():.3g})"
    if gram.abs().max() > 1 + tolerance:
        return f"Gram has an entry of size {gram.abs().max():.3g}, outside [-1, 1]"
    smallest = torch.linalg.eigvalsh(gram)[0].item()
    if smallest < -tolerance * len(gram):
        return f"Gram is not positive semi-definite (eigenvalue {smallest:.3g})"
    return None
