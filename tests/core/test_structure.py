"""The structure of classes: against loops, by hand, and its laws."""

from __future__ import annotations

import pytest
import torch
from fedgram.core.gram import cosine_gram
from fedgram.core.structure import structure_loss
from hypothesis import given
from reference import structure as slow
from strategies import normal, orthogonal, seeds

CLASSES = torch.tensor([4, 0, 0, 2, 4, 4])


@given(seeds)
def test_it_is_what_the_loops_say(seed: int):
    z, prototypes = normal(seed, 6, 8), normal(seed + 1, 5, 3)
    expected = slow.structure_loss(z, CLASSES.tolist(), prototypes)
    assert structure_loss(z, CLASSES, prototypes).item() == pytest.approx(expected)


def test_by_hand():
    """Two classes at a right angle, whose prototypes are at 60°: four cosines, of which two are off by ½."""
    prototypes = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]])
    loss = structure_loss(torch.eye(2), torch.tensor([0, 1]), prototypes)
    assert loss.item() == pytest.approx((0 + 0.25 + 0.25 + 0) / 4)
    assert structure_loss(prototypes, torch.tensor([0, 1]), prototypes).item() == pytest.approx(0, abs=1e-12)


@given(seeds)
def test_it_asks_for_no_basis_and_is_a_distance_of_gram_matrices(seed: int):
    z, prototypes = normal(seed, 6, 8), normal(seed + 1, 5, 4)
    loss = structure_loss(z, CLASSES, prototypes)
    turned = structure_loss(z @ orthogonal(seed, 8), CLASSES, prototypes @ orthogonal(seed + 2, 4))
    torch.testing.assert_close(turned, loss)
    one_each = structure_loss(z[:5], torch.arange(5), prototypes)
    torch.testing.assert_close(one_each, (cosine_gram(z[:5]) - cosine_gram(prototypes)).square().mean())
