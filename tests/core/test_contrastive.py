from __future__ import annotations

import math

import pytest
import torch
from fedgram.core.contrastive import info_nce, pair_recall
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import contrastive as reference
from strategies import normal, orthogonal, representations, seeds
from torch import Tensor

TIGHT = {"rtol": 0, "atol": 1e-9}
temperatures = st.sampled_from([0.05, 0.1, 1.0, 10.0])


def pair_of(z: Tensor, seed: int) -> Tensor:
    """Something that has to do with z, and has its shape."""
    return z + normal(seed, *z.shape)


@given(representations(), seeds, temperatures)
def test_the_loss_equals_the_loop(z, seed, temperature):
    other = pair_of(z, seed)
    expected = reference.info_nce(z, other, temperature)
    assert info_nce(z, other, temperature).item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


@given(representations(), seeds)
def test_recall_equals_the_loop(z, seed):
    other = pair_of(z, seed)
    assert pair_recall(z, other) == pytest.approx(reference.pair_recall(z, other))


@given(representations(), seeds, temperatures)
def test_the_order_of_the_two_does_not_matter(z, seed, temperature):
    other = pair_of(z, seed)
    torch.testing.assert_close(info_nce(z, other, temperature), info_nce(other, z, temperature), **TIGHT)
    assert pair_recall(z, other) == pair_recall(other, z)


@given(representations(), seeds, st.randoms(use_true_random=False))
def test_order_of_pairs_rotation_and_scale_do_not_matter(z, seed, random):
    other, order = pair_of(z, seed), list(range(len(z)))
    random.shuffle(order)
    q, lengths = orthogonal(seed, z.shape[1]), normal(seed + 1, len(z), 1).exp()
    expected = info_nce(z, other, 0.2)
    torch.testing.assert_close(info_nce(z[order], other[order], 0.2), expected, **TIGHT)
    torch.testing.assert_close(info_nce(z @ q, other @ q, 0.2), expected, **TIGHT)
    torch.testing.assert_close(info_nce(lengths * z, 3.0 * other, 0.2), expected, **TIGHT)
    assert pair_recall(z[order], other[order]) == pair_recall(z, other)


def test_by_hand():
    """Cosines 1 and 0 in the first row, 0.6 and 0.8 in the second; τ = ½ doubles them.

    Rows: log(1 + e⁻²) and log(1 + e^(1.2 − 1.6)); columns: log(1 + e^(1.2 − 2)) and log(1 + e^(0 − 1.6)).
    """
    z, other = torch.tensor([[2.0, 0.0], [3.0, 4.0]]), torch.tensor([[1.0, 0.0], [0.0, 7.0]])
    expected = sum(math.log1p(math.exp(x)) for x in (-2.0, -0.4, -0.8, -1.6)) / 4
    assert info_nce(z, other, 0.5).item() == pytest.approx(expected, rel=1e-6)
    assert pair_recall(z, other) == 1.0
    assert pair_recall(z, other.flip(0)) == 0.0


def test_one_way_can_find_what_the_other_does_not():
    """Cosines 0.95 and −0.71, 0.82 and 0.14: rows both take column 1, each column its own."""
    z, other = torch.tensor([[1.0, 0.0], [3.0, 4.0]]), torch.tensor([[3.0, 1.0], [-1.0, 1.0]])
    assert pair_recall(z, other) == (1 / 2 + 1) / 2


def test_collapse_is_told_by_both():
    """One and the same representation for all: log N, and one right answer in N."""
    z = torch.ones(8, 5)
    assert info_nce(z, z, 0.1).item() == pytest.approx(math.log(8), rel=1e-6)
    assert pair_recall(z, z) == pytest.approx(1 / 8)


def test_the_right_pairs_cost_less():
    z = normal(0, 32, 16)
    other = z + 0.3 * normal(1, 32, 16)
    assert info_nce(z, other, 0.1) < 0.2 * info_nce(z, other.roll(1, 0), 0.1)
    assert pair_recall(z, other) > 0.9


@given(representations(), seeds)
def test_gradients_are_finite(z, seed):
    z, other = (t.float().requires_grad_() for t in (z, pair_of(z, seed)))
    loss = info_nce(z, other, 0.07)
    loss.backward()
    assert loss.dtype == torch.float32
    assert all(torch.isfinite(t.grad).all() for t in (z, other))


def test_a_row_of_zeros_breaks_nothing():
    z = torch.cat([torch.zeros(1, 4), torch.eye(4)]).requires_grad_()
    info_nce(z, z.detach().clone(), 0.1).backward()
    assert torch.isfinite(z.grad).all()


def test_half_precision_is_computed_in_float32():
    z, other = normal(0, 6, 8).bfloat16(), normal(1, 6, 8).bfloat16()
    torch.testing.assert_close(info_nce(z, other, 0.1), info_nce(z.float(), other.float(), 0.1), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("z", "other"),
    [((3, 4), (3, 5)), ((3, 4), (2, 4)), ((4,), (4,)), ((2, 3, 4), (2, 3, 4)), ((1, 4), (1, 4)), ((0, 4), (0, 4))],
)
def test_other_shapes_are_refused(z, other):
    with pytest.raises(FedgramError) as error:
        info_nce(torch.ones(z), torch.ones(other), 0.1)
    assert f"representations of shape {z} and {other}" in error.value.problem
    assert "N ≥ 2" in str(error.value)


def test_recall_needs_a_row():
    assert pair_recall(torch.ones(1, 4), torch.ones(1, 4)) == 1.0
    with pytest.raises(FedgramError, match="N ≥ 1"):
        pair_recall(torch.ones(0, 4), torch.ones(0, 4))


@pytest.mark.parametrize("temperature", [0.0, -0.1, float("nan")])
def test_a_temperature_is_positive(temperature):
    with pytest.raises(FedgramError, match=r"(?s)temperature.*positive"):
        info_nce(torch.ones(3, 4), torch.ones(3, 4), temperature)
