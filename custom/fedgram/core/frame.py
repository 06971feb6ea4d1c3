"""The consensus frame: coordinates that all sites know from Ḡ alone, and every site's turn onto them.

Ḡ fixes a geometry up to a rotation. Classical scaling of Ḡ (Torgerson 1952) chooses one: the anchors' places T.
Every space is then turned so that its anchors lie on T as well as they can (orthogonal Procrustes, Schönemann
1966), and plain cosines compare modalities.
"""

from __future__ import annotations

import torch
from torch import Tensor

from fedgram.core.cka import center
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
    values, vectors = torch.linalg.eigh(center(gram))
    places = vectors.flip(1) * values.flip(0).clamp(min=0.0).sqrt()
    largest = places.gather(0, places.abs().argmax(0, keepdim=True))
    return places * torch.where(largest < 0, -1.0, 1.0)


def frame_coordinates(coordinates: Tensor, gram: Tensor, places: Tensor) -> Tensor:
    """Samples in the frame, from nothing but their anchor coordinates and the Gram of the anchors.

    With unit anchors A of mean μ and a unit sample u the frame has (u − μ) R, where R is the turn (a partial
    isometry) that brings A − μ nearest to the anchors' places T: R = M (MᵀM)^−½ with M = (A − μ)ᵀ T. Both products
    that this takes follow from the arguments: (u − μ)(A − μ)ᵀ = r − ḡ + mean ḡ, ḡ the row means of G, and
    (A − μ)(A − μ)ᵀ is the centred G. So whoever knows r and G can place a sample, without its representation.

    Args:
        coordinates: r, (N, b), of :func:`~fedgram.core.relative.anchor_coordinates`.
        gram: G, (b, b) cosines between the same anchors.
        places: T, (b, B), their rows of :func:`consensus_frame`.

    Returns:
        (N, B), float32; directions that the anchors do not span are left out.

    Raises:
        FedgramError: shapes differ, or there are fewer than 2 anchors.
    """
    b = len(gram)
    fits = coordinates.ndim == places.ndim == 2 and coordinates.shape[1] == b == len(places) and b > 1
    if not fits or gram.shape != (b, b):
        raise FedgramError(
            f"coordinates {tuple(coordinates.shape)}, Gram {tuple(gram.shape)}, places {tuple(places.shape)}",
            expected="(N, b), (b, b) and (b, B), b ≥ 2",
        )
    gram, target = gram.double(), places.double() - places.double().mean(0)
    rows = gram.mean(1)
    values, vectors = torch.linalg.eigh(target.T @ center(gram) @ target)
    spanned = values > 1e-10 * values[-1]
    root = vectors[:, spanned] * values[spanned].rsqrt() @ vectors[:, spanned].T
    return ((coordinates.double() - rows + rows.mean()) @ target @ root).float()
