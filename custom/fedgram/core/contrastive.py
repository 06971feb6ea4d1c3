"""The contrastive loss between two representations of the same samples, and how well one retrieves the other."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from fedgram.core.relative import cross_similarity
from fedgram.errors import FedgramError


def info_nce(z: Tensor, other: Tensor, temperature: float) -> Tensor:
    """Symmetric InfoNCE: each sample is to find its own pair among all N of the batch, in both directions.

    With S_ij = cos(z_i, z'_j) / τ,

        L = −1/(2N) Σ_i [log softmax_j(S_ij) at j = i  +  log softmax_j(S_ji) at j = i],

    van den Oord et al. 2018 (eq. 4), in both directions as Radford et al. 2021 (fig. 3), here with a fixed τ.

    Args:
        z: (N, d), N ≥ 2: alone, a sample has nothing to be told from.
        other: z', (N, d); row i is the pair of row i of ``z``.
        temperature: τ > 0.

    Returns:
        Scalar, at least float32; log N where nothing is told apart. A zero row has cosine 0 to everything.

    Raises:
        FedgramError: other shapes, fewer than 2 rows, or a temperature that is not positive.

    Laws: symmetric in its two arguments; invariant to one permutation of both, to one orthogonal map of both,
    and to positive scaling of any row.
    """
    _require_pairs(z, other, least=2)
    if not temperature > 0:
        raise FedgramError(f"temperature {temperature}", expected="positive")
    similarity = _cosines(z, other) / temperature
    own = torch.arange(len(z), device=z.device)
    return (cross_entropy(similarity, own) + cross_entropy(similarity.T, own)) / 2


def pair_recall(z: Tensor, other: Tensor) -> float:
    """Recall R@1: how often the most similar row of the other representation is a sample's own pair.

    The mean of both directions; 1/N by guessing, and for a collapsed representation. Ties go to the first row.

    Args:
        z, other: as in :func:`info_nce`; one row is enough.

    Raises:
        FedgramError: other shapes, or no rows.
    """
    _require_pairs(z, other, least=1)
    similarity, own = _cosines(z, other), torch.arange(len(z), device=z.device)
    hits = [(s.argmax(dim=1) == own).double().mean().item() for s in (similarity, similarity.T)]
    return sum(hits) / 2


def _cosines(z: Tensor, other: Tensor) -> Tensor:
    kind = torch.promote_types(torch.promote_types(z.dtype, other.dtype), torch.float32)
    return cross_similarity(z.to(kind), other.to(kind))


def _require_pairs(z: Tensor, other: Tensor, least: int) -> None:
    if z.ndim != 2 or z.shape != other.shape or len(z) < least:
        raise FedgramError(
            f"representations of shape {tuple(z.shape)} and {tuple(other.shape)}",
            expected=f"(N, d) twice, N ≥ {least}",
        )
