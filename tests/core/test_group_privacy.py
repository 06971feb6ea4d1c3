"""The steps of the private mechanism against hand-worked values, and the gradients of groups against autograd."""

from __future__ import annotations

import math

import pytest
import torch
from fedgram.core import privacy


def test_poisson_sample_takes_each_group_by_itself():
    assert privacy.poisson_sample(torch.tensor([0.1, 0.9, 0.3]), 0.3).tolist() == [0]
    assert privacy.poisson_sample(torch.tensor([0.1, 0.999]), 1.0).tolist() == [0, 1]
    uniform = torch.rand(4000, 5, dtype=torch.float64)
    counts = torch.tensor([len(privacy.poisson_sample(u, 0.3)) for u in uniform]).double()
    assert abs(counts.mean().item() - 1.5) < 0.06  # binomial: mean q K, variance q (1 − q) K
    assert abs(counts.var().item() - 1.05) < 0.08


def test_box_muller_is_standard_normal():
    normal = privacy.box_muller(torch.rand(200_000, dtype=torch.float64))
    assert normal.dtype == torch.float64
    assert abs(normal.mean().item()) < 0.01
    assert abs(normal.var().item() - 1) < 0.01
    assert abs((normal.abs() > 1.959964).double().mean().item() - 0.05) < 0.003
    half = privacy.box_muller(torch.tensor([math.exp(-0.5), 0.25], dtype=torch.float64))
    torch.testing.assert_close(half, torch.tensor([0.0, 1.0], dtype=torch.float64))  # radius 1, a quarter turn


def test_a_group_is_shortened_part_by_part():
    gradients = {"p.a": torch.tensor([[3.0, 0.0], [0.3, 0.0]]), "p.b": torch.tensor([[[4.0]], [[0.4]]])}
    total = privacy.clipped_sum(gradients, 1.0)  # norms 5 and ½: factors 1/5 and 1
    torch.testing.assert_close(total["p.a"], torch.tensor([0.9, 0.0]))
    torch.testing.assert_close(total["p.b"], torch.tensor([[1.2]]))
    more = {**gradients, "q": torch.tensor([[100.0], [0.1]])}
    total = privacy.clipped_sum(more, 2**0.5)  # each of two parts to 1
    torch.testing.assert_close(total["p.a"], torch.tensor([0.9, 0.0]))
    torch.testing.assert_close(total["q"], torch.tensor([1.1]))


@pytest.mark.parametrize("bad", [math.inf, math.nan, 3e38])
def test_a_gradient_that_is_not_finite_has_no_part(bad):
    gradients = {"a": torch.tensor([[bad, bad], [0.3, 0.4]])}
    total = privacy.clipped_sum(gradients, 1.0)["a"]
    assert total.isfinite().all()
    if not bad < 1e38:
        assert (total - torch.tensor([0.3, 0.4])).norm() <= 1 + 1e-6


def test_no_group_moves_the_sum_by_more_than_the_clip():
    gradients = {"a": 10 * torch.randn(6, 4, 3), "b": torch.randn(6, 2)}
    whole = privacy.clipped_sum(gradients, 0.7)
    for k in range(6):
        rest = privacy.clipped_sum({n: torch.cat([g[:k], g[k + 1 :]]) for n, g in gradients.items()}, 0.7)
        moved = sum((whole[n] - rest[n]).square().sum().item() for n in whole) ** 0.5
        assert moved <= 0.7 * (1 + 1e-5)


def test_noise_has_its_size_whoever_takes_part():
    normal = torch.randn(4, dtype=torch.float64)
    mean = privacy.noised_mean(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), normal, 3.0, 0.5, 8.0)
    expected = (torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64) + 1.5 * normal.view(2, 2)) / 8
    torch.testing.assert_close(mean, expected)


@pytest.mark.parametrize("shape", [(7,), (7, 3)])
def test_gradients_of_groups_are_those_of_autograd(shape):
    sizes, bias = [2, 1, 4], torch.randn(5)
    x, weight, m = torch.randn(*shape, 6), torch.randn(5, 6), torch.randn(5).abs() + 0.1
    direction = torch.randn(*shape, 5)
    got = {
        "w": privacy.weight_gradients(x, direction * m, sizes),
        "b": privacy.row_gradients(direction, sizes),
        "m": privacy.magnitude_gradients(direction, m * (x @ weight.T) + bias, bias, m, sizes),
    }
    for k, (xo, go) in enumerate(zip(x.split(sizes), direction.split(sizes), strict=True)):
        leaves = {"w": weight.clone(), "b": bias.clone(), "m": m.clone()}
        for leaf in leaves.values():
            leaf.requires_grad_()
        y = leaves["m"] * (xo @ leaves["w"].T) + leaves["b"]
        (y * go).sum().backward()
        for name, leaf in leaves.items():
            torch.testing.assert_close(got[name][k], leaf.grad, rtol=1e-4, atol=1e-4)


def test_a_magnitude_of_zero_has_no_gradient():
    g, y = torch.randn(2, 3), torch.randn(2, 3)
    m = torch.tensor([0.0, 1.0, 2.0])
    found = privacy.magnitude_gradients(g, y, None, m, [1, 1])
    assert (found[:, 0] == 0).all()
    torch.testing.assert_close(found[:, 2], g[:, 2] * y[:, 2] / 2)
