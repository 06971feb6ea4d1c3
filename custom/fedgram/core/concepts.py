"""What anchors of one concept have in common: in unpaired anchor sets, all that slot j means in every modality."""

from __future__ import annotations

import torch
from torch import Tensor

from fedgram.core.relative import cross_similarity
from fedgram.errors import FedgramError


def concept_gram(gram: Tensor, concepts: Tensor) -> Tensor:
    """Mean cosine between the anchors of two concepts, an anchor with itself left out.

    Slot j holds another thing in every modality, of the same concept: a consensus over slots keeps what the
    concepts have in common, and an average of accidents besides. This keeps the first alone.

    Args:
        gram: (b, b) cosines.
        concepts: (b,) int64, index of each anchor's concept.

    Returns:
        (C, C) for the concepts present, in ascending order; 1 on the diagonal for a concept with one anchor.

    Raises:
        FedgramError: not one concept an anchor.

    Law: G with equal cosines within each block has the same ``concept_gram`` for any choice of anchors.
    """
    if gram.ndim != 2 or gram.shape != (len(concepts), len(concepts)):
        raise FedgramError(f"Gram of shape {tuple(gram.shape)}", expected=f"{len(concepts)} square")
    members = _members(concepts, gram)
    pairs = members @ (gram - torch.diag(gram.diagonal())) @ members.T
    sizes = members.sum(1)
    counts = torch.outer(sizes, sizes) - torch.diag(sizes)
    return torch.where(counts > 0, pairs / counts.clamp(min=1.0), 1.0)


def concept_logits(coordinates: Tensor, gram: Tensor, concepts: Tensor, temperature: float) -> Tensor:
    """How near samples are to each concept in anchor coordinates, as logits.

    The coordinates of a concept are the mean over its anchors of the rows of ``gram``, each minus its mean; a
    logit is their cosine with the sample's, divided by the temperature. With the consensus for ``gram`` a concept
    has the same coordinates at every site, so that samples of one concept meet there, whatever their modality.

    Args:
        coordinates: (N, b) anchor coordinates.
        gram: (b, b) cosines between the anchors.
        concepts: (b,) int64, index of each anchor's concept.

    Returns:
        (N, C) for the concepts present, in ascending order.
    """
    rows = gram - gram.mean(dim=1, keepdim=True)
    members = _members(concepts, gram)
    return cross_similarity(coordinates, members @ rows / members.sum(1, keepdim=True)) / temperature


def _members(concepts: Tensor, like: Tensor) -> Tensor:
    """(C, b), 1 where an anchor is of a concept."""
    return (concepts.unique()[:, None] == concepts[None, :]).to(like)
