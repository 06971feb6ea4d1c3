from __future__ import annotations

import pytest
import torch
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates, cross_similarity, mutual_knn
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import gram as gram_reference
from reference import relative as reference
from strategies import normal, orthogonal, representations, seeds

TIGHT = {"rtol": 0, "atol": 1e-10}


@given(representations(), seeds)
def test_coordinates_equal_the_loop(anchors, seed):
    z = normal(seed, 7, anchors.shape[1])
    expected = torch.tensor(reference.anchor_coordinates(z, anchors), dtype=torch.float64)
    torch.testing.assert_close(anchor_coordinates(z, anchors), expected, **TIGHT)


@given(representations(), seeds)
def test_coordinates_ignore_rotation_and_scale_and_sum_to_zero(anchors, seed):
    z, q = normal(seed, 7, anchors.shape[1]), orthogonal(seed, anchors.shape[1])
    r = anchor_coordinates(z, anchors)
    lengths = normal(seed + 1, 7, 1).exp()
    torch.testing.assert_close(anchor_coordinates(lengths * z @ q, 0.1 * anchors @ q), r, **TIGHT)
    torch.testing.assert_close(r.sum(1), torch.zeros(7, dtype=torch.float64), **TIGHT)


@given(representations(), seeds, st.randoms(use_true_random=False))
def test_coordinates_follow_the_order_of_anchors(anchors, seed, random):
    z, order = normal(seed, 7, anchors.shape[1]), list(range(len(anchors)))
    random.shuffle(order)
    torch.testing.assert_close(
        anchor_coordinates(z, anchors[order]), anchor_coordinates(z, anchors)[:, order], **TIGHT
    )


def test_coordinates_by_hand():
    """Cosines 0.6 and 0.8, mean 0.7."""
    r = anchor_coordinates(torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    torch.testing.assert_close(r, torch.tensor([[-0.1, 0.1]]))


def test_coordinates_align_what_raw_cosines_cannot():
    """Two sites see the same geometry in different bases: raw cosines are at chance, coordinates find all."""
    z, anchors, q = normal(0, 50, 32), normal(1, 64, 32), orthogonal(2, 32)
    truth = torch.arange(50)
    raw = cross_similarity(z, z @ q).argmax(1)
    relative = cross_similarity(anchor_coordinates(z, anchors), anchor_coordinates(z @ q, anchors @ q)).argmax(1)
    assert (raw == truth).double().mean() < 0.1
    torch.testing.assert_close(relative, truth)


@pytest.mark.parametrize(
    ("z", "anchors"),
    [
        ((3, 4), (2, 5)),
        ((3, 5), (2, 4)),
        ((4,), (2, 4)),
        ((3, 4), (4,)),
        ((3, 4), (1, 4)),
        ((2, 4, 5), (3, 4)),
        ((3, 4), (2, 4, 5)),
    ],
)
def test_coordinates_refuse_other_shapes(z, anchors):
    with pytest.raises(FedgramError) as error:
        anchor_coordinates(torch.ones(z), torch.ones(anchors))
    assert f"samples of shape {z}, anchors of shape {anchors}" in error.value.problem
    assert "B ≥ 2" in str(error.value)


@given(representations(), seeds)
def test_cross_similarity_is_the_block_of_the_joint_gram(queries, seed):
    gallery = normal(seed, 4, queries.shape[1])
    joint = gram_reference.cosine_gram(torch.cat([queries, gallery]))
    torch.testing.assert_close(cross_similarity(queries, gallery), joint[: len(queries), len(queries) :], **TIGHT)
    torch.testing.assert_close(cross_similarity(queries, gallery).T, cross_similarity(gallery, queries), **TIGHT)


@given(seeds, st.integers(2, 10), st.data())
def test_mutual_knn_equals_the_loop(seed, n, data):
    k = data.draw(st.integers(1, n - 1))
    x, y = cosine_gram(normal(seed, n, 5)), cosine_gram(normal(seed + 1, n, 5))
    assert mutual_knn(x, y, k) == pytest.approx(reference.mutual_knn(x, y, k))


@given(seeds, st.integers(3, 10), st.data())
def test_mutual_knn_laws(seed, n, data):
    k, order = data.draw(st.integers(1, n - 1)), data.draw(st.permutations(range(n)))
    x, y = cosine_gram(normal(seed, n, 5)), cosine_gram(normal(seed + 1, n, 5))
    assert mutual_knn(x, x, k) == 1
    assert mutual_knn(x, y, n - 1) == 1  # everybody is a neighbour
    assert mutual_knn(x, y, k) == mutual_knn(y, x, k)
    assert mutual_knn(x, x.exp(), k) == 1  # only ranks count
    assert mutual_knn(x[order][:, order], y[order][:, order], k) == pytest.approx(mutual_knn(x, y, k))


def test_mutual_knn_by_hand():
    """On a line at 0, 1, 3 and at 0, 2, 3: nearest are 1 0 1 against 1 2 1; items 0 and 2 agree."""
    x, y = (-(p[:, None] - p[None, :]).abs() for p in (torch.tensor([0.0, 1, 3]), torch.tensor([0.0, 2, 3])))
    assert mutual_knn(x, y, 1) == pytest.approx(2 / 3)


def test_mutual_knn_of_unrelated_items_is_that_of_shuffled_ones():
    """The permutation null: pairing items at random gives k/(n−1), which related items exceed by far."""
    n, k = 40, 5
    z = normal(0, n, 16)
    x, related = cosine_gram(z), cosine_gram(z + 0.3 * normal(1, n, 16))
    null = []
    for seed in range(100):
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed))
        null.append(mutual_knn(x, related[order][:, order], k))
    assert sum(null) / len(null) == pytest.approx(k / (n - 1), abs=0.01)
    assert mutual_knn(x, related, k) > 2 * max(null)


def test_mutual_knn_leaves_its_arguments_alone():
    x = cosine_gram(normal(0, 6, 3))
    before = x.clone()
    mutual_knn(x, x, 2)
    torch.testing.assert_close(x, before, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("x", "y", "k"),
    [
        ((4, 4), (5, 5), 1),
        ((4, 5), (4, 5), 1),
        ((4, 3), (4, 4), 1),
        ((4, 5), (4, 4), 1),
        ((4, 4), (4, 3), 1),
        ((4, 4), (4, 5), 1),
        ((4,), (4,), 1),
        ((), (), 1),
        ((4, 4), (4, 4), 0),
        ((4, 4), (4, 4), 4),
    ],
)
def test_mutual_knn_refuses(x, y, k):
    with pytest.raises(FedgramError) as error:
        mutual_knn(torch.ones(x), torch.ones(y), k)
    assert f"{x} and {y}, k = {k}" in error.value.problem
    assert "1 ≤ k ≤ n − 1" in str(error.value)
