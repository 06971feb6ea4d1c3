from __future__ import annotations

import pytest
import torch
from fedgram.core.cka import center, cka, u_center
from fedgram.core.gram import cosine_gram
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import cka as reference
from strategies import cosine_grams, gram_pairs, normal, orthogonal, representations, seeds

VARIANTS = ["paper", "centered", "debiased"]
every_variant = pytest.mark.parametrize("variant", VARIANTS)


@every_variant
@given(pair=gram_pairs())
def test_equals_textbook_hsic(variant, pair):
    x, y = pair
    assert cka(x, y, variant).item() == pytest.approx(reference.cka(x, y, variant), abs=1e-9)


@every_variant
@given(pair=gram_pairs())
def test_symmetric_and_at_most_one(variant, pair):
    x, y = pair
    assert cka(x, y, variant).item() == pytest.approx(cka(y, x, variant).item(), abs=1e-12)
    assert abs(cka(x, y, variant).item()) <= 1 + 1e-12


@every_variant
@given(x=cosine_grams())
def test_a_gram_agrees_with_itself(variant, x):
    assert cka(x, x, variant).item() == pytest.approx(1, abs=1e-12)


@every_variant
@given(pair=gram_pairs(), exponents=st.tuples(st.integers(-12, 12), st.integers(-12, 12)))
def test_invariant_to_the_scale_of_either_gram(variant, pair, exponents):
    x, y = pair
    scaled = cka(x * 10.0 ** exponents[0], y * 10.0 ** exponents[1], variant)
    assert scaled.item() == pytest.approx(cka(x, y, variant).item(), abs=1e-9)


@every_variant
@given(pair=gram_pairs(), random=st.randoms(use_true_random=False))
def test_invariant_to_one_permutation_of_the_anchors(variant, pair, random):
    x, y = pair
    order = list(range(len(x)))
    random.shuffle(order)
    permuted = cka(x[order][:, order], y[order][:, order], variant)
    assert permuted.item() == pytest.approx(cka(x, y, variant).item(), abs=1e-9)


@every_variant
@given(z=representations(), other=cosine_grams(st.just(8)), seed=seeds)
def test_invariant_to_a_rotation_of_the_representation(variant, z, other, seed):
    z = z.repeat(2, 1)[:8] + normal(seed, 8, z.shape[1])
    rotated = cosine_gram(z @ orthogonal(seed, z.shape[1]))
    assert cka(rotated, other, variant).item() == pytest.approx(
        cka(cosine_gram(z), other, variant).item(), abs=1e-9
    )


def test_not_invariant_to_a_permutation_of_one_gram():
    x = cosine_gram(normal(0, 16, 4))
    order = [*range(1, 16), 0]
    assert cka(x, x[order][:, order]).item() < 0.5


@given(cosine_grams())
def test_centred_rows_sum_to_zero(x):
    zeros = torch.zeros(len(x), dtype=torch.float64)
    for centred in (center(x), u_center(x)):
        torch.testing.assert_close(centred.sum(0), zeros, rtol=0, atol=1e-10)
        torch.testing.assert_close(centred.sum(1), zeros, rtol=0, atol=1e-10)
    torch.testing.assert_close(u_center(x).diagonal(), zeros, rtol=0, atol=0)


def test_by_hand():
    """Two clusters of two against two pairs across them, over four anchors.

    paper:    each Gram has 8 ones, 4 of them (the diagonal) in common: 4 / 8.
    centered: 1 → ½ and 0 → −½ everywhere: 16 · ¼ = 4 for the norms, (8 − 8) · ¼ = 0 for the product.
    debiased: without the diagonal a row sums to 1, all to 4: a pair gives 1 − ½ − ½ + 4/6 = ⅔, any other entry
              −⅓. Norm² = 4 · 4/9 + 8 · 1/9 = 24/9; product = 8 · (−2/9) + 4 · 1/9 = −12/9: −½.
    """
    x = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 1], [0, 0, 1, 1]], dtype=torch.float64)
    y = x[[0, 2, 1, 3]][:, [0, 2, 1, 3]]
    assert cka(x, y, "paper").item() == pytest.approx(0.5)
    assert cka(x, y, "centered").item() == pytest.approx(0.0, abs=1e-15)
    assert cka(x, y, "debiased").item() == pytest.approx(-0.5)


def test_unrelated_representations_only_debiased_sees_them():
    """At d ≫ n the biased variants report alignment where there is none."""
    pairs = [(cosine_gram(normal(2 * s, 16, 768)), cosine_gram(normal(2 * s + 1, 16, 768))) for s in range(20)]
    mean = {v: sum(cka(x, y, v).item() for x, y in pairs) / len(pairs) for v in VARIANTS}
    assert mean["paper"] > 0.9
    assert mean["centered"] > 0.9
    assert abs(mean["debiased"]) < 0.05


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("noise", [0.0, 1e-8, 1e-6])
@pytest.mark.parametrize("length", [1e-3, 1.0, 1e3])
def test_collapse_scores_zero_and_pulls_nowhere(dtype, noise, length):
    """Up to rounding: in float32, cosines of nearly equal rows are 1 plus noise, which has no geometry."""
    noise = noise if dtype == torch.float32 else noise * 1e-8
    z = (length * (normal(0, 1, 64) + noise * normal(1, 16, 64))).to(dtype).requires_grad_()
    other = cosine_gram(normal(2, 16, 64).to(dtype))
    for variant in ("centered", "debiased"):
        score = cka(cosine_gram(z), other, variant)
        (gradient,) = torch.autograd.grad(score, z)
        assert score.item() == 0
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=0)
        assert cka(other, cosine_gram(z), variant).item() == 0
        assert cka(cosine_gram(z), cosine_gram(z), variant).item() == 0


def test_eq_2_as_printed_rewards_collapse():
    healthy = cosine_gram(normal(0, 16, 64) + 3 * normal(1, 1, 64))
    collapsed = torch.ones(16, 16, dtype=torch.float64)
    assert cka(collapsed, healthy, "paper").item() > 0.99


def test_geometry_that_is_small_but_real_counts():
    """Anisotropic representations, cosines within 1e-3 of each other, keep their alignment in float32."""
    z = normal(0, 16, 8)
    x = cosine_gram((z + 100 * normal(1, 1, 8)).float())
    assert x.min() > 0.99
    assert cka(x, x).item() == pytest.approx(1, abs=1e-5)


@every_variant
def test_gradient(variant):
    x, y = cosine_gram(normal(0, 6, 4)), cosine_gram(normal(1, 6, 4))
    torch.autograd.gradcheck(lambda a, b: cka(a, b, variant), (x.requires_grad_(), y.requires_grad_()))


def test_gradient_of_the_geometry_loss_down_to_the_representation():
    target = cosine_gram(normal(1, 6, 4))
    torch.autograd.gradcheck(lambda z: 1 - cka(cosine_gram(z), target), normal(0, 6, 4).requires_grad_())


def test_a_gram_that_is_not_finite_is_not_taken_for_collapse():
    assert cka(torch.full((4, 4), float("nan")), torch.eye(4), "paper").isnan()


@pytest.mark.parametrize(
    ("x", "y"),
    [((4, 4), (5, 5)), ((5, 5), (4, 4)), ((4, 5), (4, 5)), ((4,), (4,)), ((5, 4), (5, 4)), ((4, 4, 4), (4, 4, 4))],
)
def test_refuses_other_shapes(x, y):
    with pytest.raises(FedgramError) as error:
        cka(torch.ones(x), torch.ones(y))
    assert f"{x} and {y}" in error.value.problem
    assert "equal squares" in str(error.value)


def test_refuses_an_unknown_variant():
    with pytest.raises(FedgramError, match="unknown CKA variant 'linear'") as error:
        cka(torch.eye(4), torch.eye(4), "linear")
    assert error.value.expected == "paper | centered | debiased"


def test_refuses_too_few_anchors_for_debiased_alone():
    gram = cosine_gram(normal(0, 3, 2))
    with pytest.raises(FedgramError, match="debiased CKA over 3 anchors") as error:
        cka(gram, gram, "debiased")
    assert "at least 4" in str(error.value)
    assert cka(gram, gram, "centered").item() == pytest.approx(1)
