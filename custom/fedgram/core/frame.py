"""The consensus frame: coordinates that all sites know from Ḡ alone, and every site's turn onto them.

Ḡ fixes a geometry up to a rotation. Classical scaling of Ḡ (Torgerson 1952) chooses one: the anchors' places T.
Each site then turns its own space so that its anchors lie on T as well as they can (orthogonal Procrustes,
Schönemann 1966), and plain cosines compare modalities. Nothing but G leaves a site for it.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

from fedgram.errors import FedgramError


def consensus_frame(consensus: Tensor) -> Tensor:
    """The places of the anchors, T = U Λ^½ of the centred consensus H Ḡ H = U Λ Uᵀ.

    Args:
        consensus: Ḡ, (B, B), symmetric; a pair that is NaN, because too few sites cover it, counts as the mean of
            those that are known.

    Returns:
        (B, B), float64, columns by falling variance, each with its largest entry positive; the rows sum to 0.

    Raises:
        FedgramError: not a square, or no pair is known.
    """
    known = ~consensus.isnan()
    if consensus.ndim != 2 or consensus.shape[0] != consensus.shape[1] or not known.any():
        raise FedgramError(f"a consensus of shape {tuple(consensus.shape)}", expected="(B, B) with known pairs")
    gram = torch.where(known, consensus, consensus[known].mean()).double()
    centred = gram - gram.mean(0, keepdim=True) - gram.mean(1, keepdim=True) + gram.mean()
    values, vectors = torch.linalg.eigh(centred)
    places = vectors.flip(1) * values.flip(0).clamp(min=0.0).sqrt()
    largest = places.gather(0, places.abs().argmax(0, keepdim=True))
    return places * torch.where(largest < 0, -1.0, 1.0)


def frame_coordinates(z: Tensor, anchors: Tensor, places: Tensor) -> Tensor:
    """Samples in the frame: (z/‖z‖ − μ) R, with the turn R = argmin ‖(A/‖A‖ − μ) R − T‖ over partial isometries.

    R = U Vᵀ of the singular vectors of (A/‖A‖ − μ)ᵀ T; directions that the anchors do not span are left out.

    Args:
        z: (N, d) samples.
        anchors: (b, d) anchors of the same model.
        places: (b, B), their rows of :func:`consensus_frame`.

    Returns:
        (N, B), float32.

    Raises:
        FedgramError: shapes differ, or there are fewer than 2 anchors.

    Laws: invariant to one orthogonal map of samples and anchors and to positive scaling of any of them.
    """
    fits = z.ndim == anchors.ndim == places.ndim == 2 and z.shape[1] == anchors.shape[1]
    if not fits or len(anchors) != len(places) or len(anchors) < 2:
        raise FedgramError(
            f"samples of shape {tuple(z.shape)}, anchors {tuple(anchors.shape)}, places {tuple(places.shape)}",
            expected="(N, d), (b, d) and (b, B), b ≥ 2",
        )
    unit, unit_anchors = normalize(z.double(), dim=-1), normalize(anchors.double(), dim=-1)
    mean = unit_anchors.mean(0)
    u, s, v = torch.linalg.svd((unit_anchors - mean).T @ (places - places.mean(0)).double(), full_matrices=False)
    spanned = s > 1e-9 * s[0]  # the anchors say nothing about other directions
    return ((unit - mean) @ (u[:, spanned] @ v[spanned])).float()
