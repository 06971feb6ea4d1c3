"""Grams and coordinates by concept: a slow reference, laws, values worked by hand."""

from __future__ import annotations

import pytest
import torch
from fedgram.core.concepts import concept_gram, concept_logits
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from strategies import normal, orthogonal, seeds

CONCEPTS = torch.tensor([0, 0, 0, 2, 2, 5])


def slow(gram: torch.Tensor, concepts: torch.Tensor) -> torch.Tensor:
    present = sorted(set(concepts.tolist()))
    out = torch.empty(len(present), len(present), dtype=gram.dtype)
    for a, first in enumerate(present):
        for b, second in enumerate(present):
            values = [
                gram[i, j]
                for i in range(len(concepts))
                for j in range(len(concepts))
                if i != j and concepts[i] == first and concepts[j] == second
            ]
            out[a, b] = torch.stack(values).mean() if values else 1.0
    return out


@given(seeds)
def test_the_mean_over_pairs(seed: int):
    gram = cosine_gram(normal(seed, 6, 4))
    torch.testing.assert_close(concept_gram(gram, CONCEPTS), slow(gram, CONCEPTS))


@given(seeds, st.permutations(range(6)))
def test_the_order_of_the_anchors_does_not_matter(seed: int, order: list[int]):
    gram = cosine_gram(normal(seed, 6, 4))
    turned = concept_gram(gram[order][:, order], CONCEPTS[order])
    torch.testing.assert_close(turned, concept_gram(gram, CONCEPTS))


def test_by_hand():
    gram = torch.tensor([[1.0, 0.5, 0.1], [0.5, 1.0, 0.3], [0.1, 0.3, 1.0]])
    expected = torch.tensor([[0.5, 0.2], [0.2, 1.0]])
    torch.testing.assert_close(concept_gram(gram, torch.tensor([0, 0, 1])), expected)


def test_accidents_within_a_concept_are_gone():
    """Which anchors of a concept another modality has does not matter when blocks are constant."""
    blocks = torch.tensor([[0.9, 0.2, 0.1], [0.2, 0.8, 0.3], [0.1, 0.3, 0.7]])
    for concepts in (torch.tensor([0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 0, 1, 1, 2, 2])):
        gram = blocks[concepts][:, concepts]
        torch.testing.assert_close(concept_gram(gram, concepts), blocks)


def test_one_concept_an_anchor():
    with pytest.raises(FedgramError, match="3 square"):
        concept_gram(torch.eye(4), torch.tensor([0, 1, 1]))


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
