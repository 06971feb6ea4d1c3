"""Anchor-relative coordinates, in which two modalities can be compared (Moschella et al. 2023).

Aligned Gram matrices fix a geometry up to a rotation, not coordinates, so raw cosines between two modalities
mean nothing. The cosines to shared anchor slots mean the same thing at every site.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedgram.errors import FedgramError


def anchor_coordinates(z: Tensor, anchors: Tensor) -> Tensor:
    """Cosines of samples to the anchors, r(x) = [cos(z, z_a1) … cos(z, z_aB)], minus their mean.

    Args:
        z: (N, d) samples.
        anchors: (B, d) anchors of the same model, in slot order.

    Returns:
        (N, B); each row sums to 0.

    Raises:
        FedgramError: widths differ or there are fewer than 2 anchors.

    Laws: invariant to one orthogonal map of samples and anchors and to positive scaling of any of them.
    """
    if z.ndim != 2 or anchors.ndim != 2 or z.shape[1] != anchors.shape[1] or len(anchors) < 2:
        raise FedgramError(
            f"samples of shape {tuple(z.shape)}, anchors of shape {tuple(anchors.shape)}",
            expected="(N, d) and (B, d), B ≥ 2",
        )
    cosines = normalize(z, dim=-1) @ normalize(anchors, dim=-1).T
    return cosines - cosines.mean(dim=1, keepdim=True)


def cross_similarity(queries: Tensor, gallery: Tensor) -> Tensor:
    """Cosines between the rows of (N, B) and (M, B), as an (N, M) matrix."""
    return normalize(queries, dim=-1) @ normalize(gallery, dim=-1).T


def mutual_knn(x: Tensor, y: Tensor, k: int) -> float:
    """The share of nearest neighbours that two representations of the same n items have in common.

    For each item, |N_k^x ∩ N_k^y| / k with N_k the k most similar other items (Huh et al. 2024); the mean over
    the items. Unrelated representations score about k/(n−1).

    Args:
        x: (n, n) similarities in one representation.
        y: (n, n) similarities in the other.
        k: neighbours, 1 ≤ k ≤ n−1.

    Raises:
        FedgramError: shapes differ or k is out of range.
    """
    n = len(x) if x.ndim else 0
    if x.shape != (n, n) or y.shape != (n, n) or not 1 <= k < n:
        raise FedgramError(
            f"similarities of shape {tuple(x.shape)} and {tuple(y.shape)}, k = {k}",
            expected="equal squares (n, n) and 1 ≤ k ≤ n − 1",
        )
    hits = _neighbours(x, k) & _neighbours(y, k)
    return hits.sum().item() / (n * k)


def _neighbours(similarity: Tensor, k: int) -> Tensor:
    """Nearest neighbours as (n, n) bool: whether column j is among the k nearest of row i, i itself left out."""
    others = similarity.clone().fill_diagonal_(float("-inf"))
    return others.new_zeros(others.shape, dtype=torch.bool).scatter_(1, others.topk(k, dim=1).indices, True)
