"""The fused GeoLoRA / GeoDoRA layer against the dense one, and the seeded A."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from fedgram.core import dora
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.dora import dense_forward, dense_norm

dims = st.integers(1, 12)


def layer(d_out: int, r: int, d_in: int, *, bias: bool = True, dtype=torch.float32, seed: int = 0) -> dict:
    """Random weights of one layer; B is not 0 and m is not the norm."""
    g = torch.Generator().manual_seed(seed)
    parts = {
        "weight": torch.randn(d_out, d_in, generator=g).to(dtype),
        "bias": torch.randn(d_out, generator=g).to(dtype) if bias else None,
        "a": dora.frozen_a(seed, "layer", r, d_in),
        "b": torch.randn(d_out, r, generator=g),
    }
    return parts | {"m": torch.randn(d_out, generator=g) + 3}


def fused(x, p, s, m):
    scale = None if m is None else m / dora.row_norm(p["b"], s, dora.norm_constants(p["weight"], p["a"]))
    return dora.adapted_linear(x, p["weight"], p["bias"], p["a"], p["b"], s, scale)


def gradients(function, x, p, s, with_m, direction):
    """Output and gradients in x, B and m of a loss that is no constant under RMS norm."""
    x = x.detach().clone().requires_grad_()
    p = p | {"b": p["b"].clone().requires_grad_(), "m": p["m"].clone().requires_grad_()}
    y = function(x, p, s, p["m"] if with_m else None)
    (y.sin() * direction).sum().backward()
    return [y, x.grad, p["b"].grad] + ([p["m"].grad] if with_m else [])


def dense(x, p, s, m):
    return dense_forward(x, p["weight"], p["bias"], p["a"], p["b"], s, m)


@given(dims, dims, dims, st.integers(1, 9), st.booleans(), st.booleans(), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_equals_the_dense_layer(d_out, r, d_in, tokens, bias, with_m, seed):
    p = layer(d_out, r, d_in, bias=bias, seed=seed)
    x, direction = torch.randn(2, tokens, d_in), torch.randn(2, tokens, d_out)
    double = {k: v if v is None else v.double() for k, v in p.items()}
    got = gradients(fused, x, p, 0.7, with_m, direction)
    expected = gradients(dense, x.double(), double, 0.7, with_m, direction.double())
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-4, atol=1e-4 * (1 + b.abs().max().item()))


@pytest.mark.parametrize("with_m", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("autocast", [False, True])
def test_low_precision(with_m, bias, autocast):
    p = layer(48, 4, 32, bias=bias, dtype=torch.float32 if autocast else torch.bfloat16)
    x, direction = torch.randn(64, 32), torch.randn(64, 48)
    double = {k: v if v is None else v.double() for k, v in p.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        got = gradients(fused, x if autocast else x.bfloat16(), p, 0.7, with_m, direction)
    assert got[0].dtype == torch.bfloat16
    assert got[2].dtype == torch.float32
    for a, b in zip(got, gradients(dense, x.double(), double, 0.7, with_m, direction.double()), strict=True):
        assert (a.double() - b).norm() < 0.06 * b.norm()


def test_small_change_of_the_scale_survives_bfloat16():
    z = torch.full((4096, 1), 1.0).bfloat16() * torch.linspace(1, 2, 4096)[:, None].bfloat16()
    scaled = dora.adapted_linear(z, torch.ones(1, 1).bfloat16(), None, torch.zeros(1, 1), torch.zeros(1, 1), 1.0,
                                 torch.tensor([1.005]))  # fmt: skip
    assert (scaled.float().mean() / z.float().mean()).item() == pytest.approx(1.005, abs=5e-4)


@pytest.mark.parametrize("bias", [False, True])
def test_output_of_a_base_layer_is_adapted_the_same_way(bias):
    p = layer(24, 3, 16, bias=bias)

    def on_output(x, p, s, m):
        scale = None if m is None else m / dora.row_norm(p["b"], s, dora.norm_constants(p["weight"], p["a"]))
        z = torch.nn.functional.linear(x, p["weight"], p["bias"])
        return dora.adapt_output(z, x, p["bias"], p["a"], p["b"], s, scale)

    x, direction = torch.randn(5, 16), torch.randn(5, 24)
    for with_m in (False, True):
        got = gradients(on_output, x, p, 0.7, with_m, direction)
        for a, b in zip(got, gradients(fused, x, p, 0.7, with_m, direction), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_gradcheck_with_the_norm_held_constant():
    torch.manual_seed(0)
    w, bias, a = (torch.randn(*shape, dtype=torch.float64) for shape in [(5, 4), (5,), (2, 4)])
    x, b, c = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in [(3, 4), (5, 2), (5,)])
    assert torch.autograd.gradcheck(lambda x, b, c: dora.adapted_linear(x, w, bias, a, b, 0.3, c), (x, b, c))


def test_only_what_needs_a_gradient_gets_one():
    p = layer(6, 2, 4)
    x = torch.randn(3, 4)
    y = dora.adapted_linear(x, p["weight"], p["bias"], p["a"], p["b"].requires_grad_(), 1.0, p["m"])
    y.sum().backward()
    assert p["b"].grad is not None
    assert x.grad is p["m"].grad is p["a"].grad is p["weight"].grad is None


@given(dims, dims, dims, st.integers(0, 99), st.sampled_from([torch.float32, torch.bfloat16]))
@settings(max_examples=60, deadline=None)
def test_row_norm_equals_the_dense_norm(d_out, r, d_in, seed, dtype):
    p = layer(d_out, r, d_in, dtype=dtype, seed=seed)
    got = dora.row_norm(p["b"], 1.3, dora.norm_constants(p["weight"], p["a"]))
    torch.testing.assert_close(got.double(), dense_norm(p["weight"], p["a"], p["b"], 1.3), rtol=1e-5, atol=1e-5)


def test_row_norm_by_hand():
    # W = (3, 0), A = (0, 1), B = 4: W + B A = (3, 4).
    constants = dora.norm_constants(torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 1.0]]))
    assert dora.row_norm(torch.tensor([[4.0]]), 1.0, constants).item() == pytest.approx(5)


@pytest.mark.parametrize("remainder", [1e-1, 1e-3, 1e-5])
def test_row_norm_keeps_its_digits_when_the_update_cancels_the_weight(remainder):
    """W = −s B A + remainder: the expanded square would leave nothing of a remainder below 3e-4."""
    a = dora.frozen_a(0, "layer", 4, 64)
    b = torch.randn(32, 4, generator=torch.Generator().manual_seed(0))
    weight = (-2.0 * b.double() @ a.double() + remainder * torch.randn(32, 64, dtype=torch.float64)).float()
    got = dora.row_norm(b, 2.0, dora.norm_constants(weight, a)).double()
    torch.testing.assert_close(got, dense_norm(weight, a, b, 2.0), rtol=1e-3, atol=3e-6)


def test_a_zero_row_gives_a_finite_scale_and_no_gradient():
    p = layer(3, 2, 4)
    p["weight"][1], p["b"][1], p["m"][1] = 0, 0, 0
    y, *rest = gradients(fused, torch.randn(5, 4), p, 1.0, True, torch.ones(5, 3))
    assert all(part.isfinite().all() for part in (y, *rest))
    torch.testing.assert_close(y[:, 1], p["bias"][1].expand(5))
    assert rest[2][1] == 0


@pytest.mark.parametrize("with_m", [False, True])
def test_merged_weight_gives_the_same_output_and_comes_apart_again(with_m):
    p = layer(24, 3, 16)
    scale = p["m"] / dora.row_norm(p["b"], 0.5, dora.norm_constants(p["weight"], p["a"])) if with_m else None
    merged = dora.merged_weight(p["weight"], p["a"], p["b"], 0.5, scale)
    x = torch.randn(5, 16)
    y = torch.nn.functional.linear(x, merged, p["bias"])
    torch.testing.assert_close(y, fused(x, p, 0.5, p["m"] if with_m else None), rtol=1e-5, atol=1e-5)
    back = dora.unmerged_weight(merged, p["a"], p["b"], 0.5, scale)
    torch.testing.assert_close(back, p["weight"], rtol=1e-5, atol=1e-5)


def test_unmerging_a_row_of_scale_zero_is_finite():
    p = layer(2, 1, 3)
    p["b"].zero_()
    back = dora.unmerged_weight(torch.zeros(2, 3), p["a"], p["b"], 1.0, torch.zeros(2))
    assert (back == 0).all()


def test_a_is_the_same_in_another_process_and_leaves_the_random_state_alone():
    state = torch.get_rng_state()
    here = dora.frozen_a(7, "base_model.model.q", 3, 5)
    assert torch.equal(torch.get_rng_state(), state)
    code = "from fedgram.core.dora import frozen_a; print(frozen_a(7, 'base_model.model.q', 3, 5).tolist())"
    there = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert torch.equal(torch.tensor(eval(there)), here)


def test_a_differs_by_layer_and_seed_and_has_unit_rows_on_average():
    a = dora.frozen_a(7, "one", 16, 4096)
    assert not torch.equal(a, dora.frozen_a(7, "two", 16, 4096))
    assert not torch.equal(a, dora.frozen_a(8, "one", 16, 4096))
    torch.testing.assert_close(a @ a.T, torch.eye(16), atol=0.1, rtol=0)
    assert a.dtype == torch.float32
    assert not a.requires_grad
