"""Noise against (ε, δ), against figures of the literature; and the stream that the noise is drawn from."""

from __future__ import annotations

import builtins
import sys

import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.sites import accountant
from fedgram.sites.draws import Draws


@pytest.mark.parametrize(("multiplier", "epsilon"), [(1.0, 32.18), (5.0, 4.275), (10.0, 1.948)])
def test_full_participation(multiplier: float, epsilon: float):
    """24 steps of the Gaussian mechanism at δ = 1e-5."""
    assert accountant.spent_epsilon(multiplier, 1e-5, 1.0, 24) == pytest.approx(epsilon, rel=2e-3)


def test_sampling_amplifies():
    """DP-SGD with q = 0.05 over 480 steps: ε = 8 at σ = 0.96; without sampling it would be many times that."""
    assert accountant.spent_epsilon(0.96, 1e-5, 0.05, 480) == pytest.approx(7.98, rel=2e-3)
    assert accountant.spent_epsilon(0.96, 1e-5, 1.0, 480) > 100


def test_mnist_as_in_the_tutorials():
    """Abadi et al. 2016, figure 2: q = 0.01, σ = 4, 10 000 steps at δ = 1e-5 is 1.26 by moments; PLD is less."""
    assert 0.9 < accountant.spent_epsilon(4.0, 1e-5, 0.01, 10_000) < 1.26


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(8.0, 1.0, 24), (1.0, 1.0, 96), (3.0, 0.3, 40)])
def test_the_noise_is_the_least_that_keeps_to_the_bound(epsilon: float, rate: float, steps: int):
    found = accountant.noise_multiplier(epsilon, 1e-5, rate, steps)
    assert accountant.spent_epsilon(found, 1e-5, rate, steps) <= epsilon
    assert accountant.spent_epsilon(found / 1.002, 1e-5, rate, steps) > epsilon
    if (epsilon, steps) == (8.0, 24):
        assert found == pytest.approx(2.9, abs=0.05)


def test_a_bound_that_no_noise_gives(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(accountant, "_MOST", 2.0)  # the accountant takes ever longer with more
    with pytest.raises(ConfigError, match="needs noise above 2 times"):
        accountant.noise_multiplier(0.5, 1e-5, 1.0, 24)


def test_without_the_accountant_there_is_a_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delitem(sys.modules, "dp_accounting", raising=False)
    real = builtins.__import__

    def absent(name, *rest, **named):
        if name.startswith("dp_accounting"):
            raise ImportError(name)
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'fedgram\[privacy\]'"):
        accountant.spent_epsilon(1.0, 1e-5, 1.0, 7)


def test_a_stream_is_that_of_its_key():
    """AES-256 in counter mode over zeros: its first block is the cipher of 0, of NIST SP 800-38B, appendix D.3."""
    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    first = Draws(key).uniform(2)
    assert torch.equal(first, Draws(key).uniform(5)[:2])
    words = (first * 2.0**52 - 0.5).to(torch.int64)
    assert words.tolist() == [0xD676CF9481F668E5 >> 12, 0x54A81043C04C4D17 >> 12]
    assert not torch.isclose(first, Draws(bytes(32)).uniform(2)).any()


def test_uniform_numbers_are_inside_and_even():
    found = Draws(bytes(range(32))).uniform(100_000)
    assert found.min() > 0
    assert found.max() < 1
    assert abs(found.mean().item() - 0.5) < 0.005
    assert abs(found.var().item() - 1 / 12) < 0.002
    normal = Draws(bytes(range(32))).normal(3)
    assert (normal.shape, normal.dtype) == ((3,), torch.float64)
