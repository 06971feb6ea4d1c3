from __future__ import annotations

import pytest
import torch
from fedgram.core.uncertainty import U_MIN, anchor_proximity, precision
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import uncertainty as reference
from strategies import normal, orthogonal, representations, seeds

every_variant = pytest.mark.parametrize("variant", ["centered", "paper"])
proximities = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@every_variant
@given(anchors=representations(), seed=seeds)
def test_equals_the_loop_over_anchors(variant, anchors, seed):
    z = normal(seed, 7, anchors.shape[1])
    expected = torch.tensor(reference.anchor_proximity(z, anchors, variant), dtype=torch.float64)
    torch.testing.assert_close(anchor_proximity(z, anchors, variant), expected, rtol=0, atol=1e-9)


@every_variant
@given(anchors=representations(), seed=seeds)
def test_invariant_to_rotation_scale_and_the_order_of_anchors(variant, anchors, seed):
    z, q = normal(seed, 7, anchors.shape[1]), orthogonal(seed, anchors.shape[1])
    moved = anchor_proximity(3.0 * z @ q, 3.0 * anchors.flip(0) @ q, variant)
    torch.testing.assert_close(moved, anchor_proximity(z, anchors, variant), rtol=0, atol=1e-9)


@every_variant
@given(anchors=representations(), seed=seeds)
def test_lies_between_zero_and_one_and_vanishes_on_an_anchor(variant, anchors, seed):
    u = anchor_proximity(normal(seed, 7, anchors.shape[1]), anchors, variant)
    assert (u >= 0).all()
    assert (u <= 1).all()
    on_anchors = anchor_proximity(anchors, anchors, variant)
    torch.testing.assert_close(on_anchors, torch.zeros_like(on_anchors), rtol=0, atol=1e-12)


@given(representations(), seeds)
def test_another_anchor_never_raises_eq_6(anchors, seed):
    z = normal(seed, 7, anchors.shape[1])
    fewer = anchor_proximity(z, anchors[:-1], "paper")  # where far, they differ by rounding alone
    assert (anchor_proximity(z, anchors, "paper") <= fewer * (1 + 1e-9)).all()


@given(representations(), seeds)
def test_centred_proximity_ignores_a_shared_offset(anchors, seed):
    z, offset = normal(seed, 7, anchors.shape[1]), normal(seed + 1, 1, anchors.shape[1])
    torch.testing.assert_close(
        anchor_proximity(z + offset, anchors + offset), anchor_proximity(z, anchors), rtol=0, atol=1e-6
    )


def test_by_hand():
    """z at 60° from the first anchor and 120° from the second: ½ (1 − ½) = ¼. The anchor mean is 0."""
    anchors = torch.tensor([[1.0, 0.0], [-1.0, 0.0]], dtype=torch.float64)
    z = torch.tensor([[0.5, 0.75**0.5], [0.0, 2.0], [-3.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([0.25, 0.5, 0.0], dtype=torch.float64)
    torch.testing.assert_close(anchor_proximity(z, anchors, "paper"), expected)
    torch.testing.assert_close(anchor_proximity(z, anchors, "centered"), expected)
    # Moved up by 1, the first two are nearer to an anchor as seen from the origin; centring takes that back.
    up = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(anchor_proximity(z + up, anchors + up, "centered"), expected)
    assert anchor_proximity(z + up, anchors + up, "paper")[1].item() == pytest.approx((1 - 0.5**0.5) / 2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [0.0, 1e-8])
def test_a_collapsed_site_gains_nothing_from_centred_proximity(dtype, noise):
    noise = noise if dtype == torch.float32 else noise * 1e-8
    point = normal(0, 1, 64)
    z = (point + noise * normal(1, 20, 64)).to(dtype)
    anchors = (point + noise * normal(2, 8, 64)).to(dtype)
    torch.testing.assert_close(anchor_proximity(z, anchors), torch.full((20,), 0.5, dtype=dtype))
    assert anchor_proximity(z, anchors, "paper").max() < 1e-6
    assert precision(anchor_proximity(z, anchors)) == pytest.approx(2)
    assert precision(anchor_proximity(z, anchors, "paper")) == pytest.approx(1 / U_MIN)


def test_a_sample_at_the_mean_of_the_anchors_is_unrelated_and_the_others_are_not():
    anchors = normal(2, 5, 8)
    u = anchor_proximity(torch.cat([anchors.mean(0)[None] + 1e-15 * normal(3, 1, 8), normal(4, 3, 8)]), anchors)
    assert u[0] == 0.5
    assert (u[1:] != 0.5).all()


@every_variant
def test_unrelated_samples_at_768_score_about_045_not_1(variant):
    """The largest of 64 cosines with spread 1/√768 is about 0.09."""
    u = anchor_proximity(normal(0, 500, 768), normal(1, 64, 768), variant)
    assert u.mean().item() == pytest.approx(0.45, abs=0.01)


@every_variant
@pytest.mark.parametrize("spoilt", ["samples", "anchors"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_diverged_site_is_not_taken_for_an_unrelated_one(variant, spoilt, value):
    z, anchors = normal(0, 3, 8), normal(1, 5, 8)
    (z if spoilt == "samples" else anchors)[0, 0] = value
    u = anchor_proximity(z, anchors, variant)
    assert u[0].isnan()
    with pytest.raises(FedgramError, match="not finite"):
        precision(u)


def test_an_empty_batch_has_no_proximities():
    assert anchor_proximity(torch.ones(0, 3), torch.ones(2, 3)).shape == (0,)


@pytest.mark.parametrize(
    ("z", "anchors"),
    [
        ((3, 4), (2, 5)),
        ((3, 5), (2, 4)),
        ((4,), (2, 4)),
        ((3, 4), (4,)),
        ((3, 4), (0, 4)),
        ((2, 4, 5), (3, 4)),
        ((3, 4), (2, 4, 5)),
    ],
)
def test_refuses_other_shapes(z, anchors):
    with pytest.raises(FedgramError) as error:
        anchor_proximity(torch.ones(z), torch.ones(anchors))
    assert f"samples of shape {z}, anchors of shape {anchors}" in error.value.problem
    assert "(N, d) and (B, d), B ≥ 1" in str(error.value)


def test_refuses_an_unknown_variant_of_proximity():
    with pytest.raises(FedgramError, match="unknown variant 'printed' of anchor proximity") as error:
        anchor_proximity(torch.ones(3, 4), torch.ones(2, 4), "printed")
    assert error.value.expected == "centered | paper"


@given(proximities, st.sampled_from([1e-3, U_MIN, 0.5, 1.0]))
def test_precision_equals_the_loop(u, u_min):
    measured = precision(torch.tensor(u, dtype=torch.float64), u_min)
    assert measured == pytest.approx(reference.precision(u, u_min))


@given(proximities, st.randoms(use_true_random=False))
def test_precision_is_bounded_and_ignores_order(u, random):
    values = torch.tensor(u, dtype=torch.float64)
    assert 1 <= precision(values) <= 1 / U_MIN * (1 + 1e-12)
    random.shuffle(u)
    assert precision(torch.tensor(u, dtype=torch.float64)) == pytest.approx(precision(values))


@given(proximities)
def test_precision_does_not_weigh_by_data_size(u):
    once, twice = torch.tensor(u, dtype=torch.float64), torch.tensor(u + u, dtype=torch.float64)
    assert precision(twice) == pytest.approx(precision(once))


def test_precision_by_hand():
    """1/u of 0.5, 0.25 and 0, the last clipped to 0.1: (2 + 4 + 10) / 3."""
    assert precision(torch.tensor([0.5, 0.25, 0.0]), u_min=0.1) == pytest.approx(16 / 3)


@pytest.mark.parametrize("shape", [(0,), (2, 2), ()])
def test_precision_refuses_other_shapes(shape):
    with pytest.raises(FedgramError) as error:
        precision(torch.ones(shape))
    assert str(shape) in error.value.problem
    assert "N ≥ 1" in str(error.value)


@pytest.mark.parametrize("u_min", [0.0, -1.0, 1.5, float("nan")])
def test_precision_refuses_u_min(u_min):
    with pytest.raises(FedgramError, match=f"u_min = {u_min}") as error:
        precision(torch.ones(2), u_min=u_min)
    assert error.value.expected == "0 < u_min ≤ 1"
