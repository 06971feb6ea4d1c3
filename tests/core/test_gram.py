from __future__ import annotations

import pytest
import torch
from fedgram.core.gram import check_gram, cosine_gram
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import gram as reference
from strategies import normal, orthogonal, representations, seeds

TIGHT = {"rtol": 0, "atol": 1e-12}


@given(representations())
def test_equals_the_loop_over_pairs(z):
    torch.testing.assert_close(cosine_gram(z), reference.cosine_gram(z), **TIGHT)


@given(representations())
def test_is_a_matrix_of_cosines(z):
    gram = cosine_gram(z)
    torch.testing.assert_close(gram, gram.T, **TIGHT)
    torch.testing.assert_close(gram.diagonal(), torch.ones(len(z), dtype=torch.float64), **TIGHT)
    assert gram.abs().max() <= 1 + 1e-12
    assert torch.linalg.eigvalsh(gram)[0] >= -1e-12 * len(z)
    assert check_gram(gram) is None
    assert check_gram(cosine_gram(z.float())) is None


@given(representations(), seeds)
def test_invariant_to_rotation_and_to_the_length_of_rows(z, seed):
    rotated = z @ orthogonal(seed, z.shape[1])
    lengths = normal(seed, len(z), 1).exp()
    torch.testing.assert_close(cosine_gram(rotated * lengths), cosine_gram(z), rtol=0, atol=1e-10)


@given(representations(), st.randoms(use_true_random=False))
def test_follows_a_permutation_of_the_anchors(z, random):
    order = list(range(len(z)))
    random.shuffle(order)
    torch.testing.assert_close(cosine_gram(z[order]), cosine_gram(z)[order][:, order], **TIGHT)


def test_by_hand():
    z = torch.tensor([[3.0, 4.0], [4.0, 3.0], [-3.0, -4.0], [0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor(
        [[1.0, 0.96, -1.0, 0.0], [0.96, 1.0, -0.96, 0.0], [-1.0, -0.96, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]],
        dtype=torch.float64,
    )
    torch.testing.assert_close(cosine_gram(z), expected, **TIGHT)


def test_gradient():
    z = normal(0, 4, 3).requires_grad_()
    torch.autograd.gradcheck(cosine_gram, z)


def test_a_zero_row_has_a_finite_gradient():
    z = torch.zeros(3, 4, requires_grad=True)
    cosine_gram(z).sum().backward()
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_representations_give_a_gram_that_passes(dtype):
    z = normal(0, 64, 256).to(dtype)
    gram = cosine_gram(z)
    assert gram.dtype == torch.float32
    assert check_gram(gram) is None
    torch.testing.assert_close(gram, cosine_gram(z.double()).float(), rtol=0, atol=1e-6)
    assert check_gram(cosine_gram(torch.zeros(2, 4, dtype=dtype))) is not None  # no NaN from 0/0 either
    assert torch.isfinite(cosine_gram(torch.zeros(2, 4, dtype=dtype))).all()


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4)])
def test_refuses_what_is_not_a_matrix(shape):
    with pytest.raises(FedgramError) as error:
        cosine_gram(torch.ones(shape))
    assert str(shape) in error.value.problem
    assert "matrix (N, d)" in str(error.value)


def _with(i: int, j: int, value: float, *, both: bool = True) -> torch.Tensor:
    gram = torch.eye(4)
    gram[i, j] = value
    if both:
        gram[j, i] = value
    return gram


# Three unit vectors cannot be pairwise at 135 degrees, though each pair can; the smallest eigenvalue is
# 1 − 2 · 0.7071 = −0.414.
IMPOSSIBLE = torch.full((3, 3), -(0.5**0.5)).fill_diagonal_(1.0)


@pytest.mark.parametrize(
    ("gram", "fault"),
    [
        (torch.ones(3), "shape (3,) is not square"),
        (torch.ones(2, 3), "shape (2, 3) is not square"),
        (torch.ones(3, 2), "shape (3, 2) is not square"),
        (torch.ones(2, 2, 2), "shape (2, 2, 2) is not square"),
        (torch.ones(0, 0), "shape (0, 0) is not square, or empty"),
        (_with(0, 1, float("nan")), "not finite"),
        (_with(2, 2, float("inf")), "not finite"),
        (_with(0, 1, 0.25, both=False), "not symmetric (largest difference 0.25)"),
        (_with(1, 1, 0.75), "no unit diagonal (off by 0.25)"),
        (torch.zeros(4, 4), "no unit diagonal (off by 1)"),
        (_with(0, 1, -1.5), "entry of size 1.5, outside [-1, 1]"),
        (IMPOSSIBLE, "not positive semi-definite (an eigenvalue below -0.003)"),
    ],
)
def test_check_gram_names_the_fault(gram, fault):
    assert fault in check_gram(gram)


@pytest.mark.parametrize(
    "change",
    [_with(0, 1, 1e-2, both=False), _with(1, 1, 1.01), _with(0, 1, 1.01), _with(0, 1, 0.0).fill_diagonal_(1.0)],
)
def test_check_gram_up_to_the_tolerance(change):
    assert check_gram(change, tolerance=0.1) is None


def test_check_gram_allows_each_anchor_a_tolerance_for_the_eigenvalues():
    assert check_gram(IMPOSSIBLE, tolerance=0.2) is None  # −0.414 > −3 · 0.2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_check_gram_accepts_collapse_and_orthogonality(dtype):
    assert check_gram(torch.ones(5, 5, dtype=dtype)) is None  # collapsed, but a matrix of cosines
    assert check_gram(torch.eye(5, dtype=dtype)) is None


@pytest.mark.parametrize("below", [0.9, 1.1])
def test_check_gram_draws_the_line_at_many_anchors_where_the_eigenvalues_do(below):
    angles = normal(1, 300, 300)
    basis = torch.linalg.qr(angles - angles.mean(0))[0]
    direction = basis[:, :1]  # G = I − λ v vᵀ, its diagonal then made 1: the smallest eigenvalue is near 1 − λ
    gram = torch.eye(300, dtype=torch.float64) - (1 + 0.3 * below) * direction @ direction.T
    gram += torch.diag(1 - gram.diagonal())
    smallest = torch.linalg.eigvalsh(gram)[0].item()
    fault = check_gram(gram.float(), tolerance=-smallest / 300 / below)
    assert (fault is not None) == (below > 1)
