"""Concepts in anchor coordinates: laws, and values known beforehand."""

from __future__ import annotations

import torch
from fedgram.core.concepts import concept_logits
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates
from hypothesis import given
from strategies import normal, orthogonal, seeds

CONCEPTS = torch.tensor([0, 0, 0, 2, 2, 5])


@given(seeds)
def test_a_sample_is_nearest_to_the_concept_whose_place_it_has(seed: int):
    anchors = normal(seed, 3, 8)[CONCEPTS.unique(return_inverse=True)[1]]  # all anchors of a concept in one place
    gram = cosine_gram(anchors)
    logits = concept_logits(anchor_coordinates(anchors, anchors), gram, CONCEPTS, temperature=0.1)
    assert logits.argmax(1).tolist() == [0, 0, 0, 1, 1, 2]
    torch.testing.assert_close(logits.amax(1), torch.full((6,), 10.0, dtype=torch.float64))


@given(seeds)
def test_logits_do_not_depend_on_the_axes_of_a_site(seed: int):
    samples, anchors, turn = normal(seed, 5, 8), normal(seed + 1, 6, 8), orthogonal(seed, 8)
    consensus = cosine_gram(normal(seed + 2, 6, 3))
    plain = concept_logits(anchor_coordinates(samples, anchors), consensus, CONCEPTS, 0.1)
    turned = concept_logits(anchor_coordinates(samples @ turn, anchors @ turn), consensus, CONCEPTS, 0.1)
    torch.testing.assert_close(turned, plain)
