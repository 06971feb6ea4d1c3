"""Concepts in anchor coordinates: in unpaired anchor sets, slot j means its concept and nothing finer."""

from __future__ import annotations

from torch import Tensor

from fedgram.core.relative import cross_similarity


def concept_logits(coordinates: Tensor, gram: Tensor, concepts: Tensor, temperature: float) -> Tensor:
    """Logits of samples by concept: how near they are to each, in anchor coordinates.

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
    """Membership of anchors in concepts: (C, b), 1 where an anchor is of a concept."""
    return (concepts.unique()[:, None] == concepts[None, :]).to(like)
