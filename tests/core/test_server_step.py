"""The server's optimisers against values worked by hand."""

from __future__ import annotations

import pytest
import torch
from fedgram.core.server_step import ServerStep
from fedgram.errors import FedgramError

CHANGES = (torch.tensor([1.0, -2.0]).double(), torch.tensor([0.5, 0.0]).double())


def run(optimizer, rate, momentum):
    moments, steps = {}, []
    for change in CHANGES:
        step = ServerStep(optimizer, rate, momentum, moments)
        steps.append(step("w", change))
        moments = step.moments
    return steps


def test_without_momentum_the_step_is_the_mean_change():
    for step, change in zip(run("momentum", 1.0, 0.0), CHANGES, strict=True):
        assert torch.equal(step, change.float())


def test_momentum():
    first, second = run("momentum", 0.5, 0.9)
    torch.testing.assert_close(first, torch.tensor([0.5, -1.0]))
    torch.testing.assert_close(second, torch.tensor([0.5 * (0.9 + 0.5), 0.5 * 0.9 * -2]))


def test_adam():
    """v = 0.1 Δ, w = 0.01 Δ²; then v ← 0.9 v + 0.1 Δ, w ← 0.99 w + 0.01 Δ²; η v / (√w + 0.001)."""
    first, second = run("adam", 0.1, 0.9)
    torch.testing.assert_close(first, torch.tensor([0.1 * 0.1 / 0.101, -0.1 * 0.2 / 0.201]))
    v, w = 0.9 * 0.1 + 0.1 * 0.5, 0.99 * 0.01 + 0.01 * 0.25
    torch.testing.assert_close(second[0], torch.tensor(0.1 * v / (w**0.5 + 1e-3)))


def test_tensors_do_not_mix():
    step = ServerStep("adam", 0.1, 0.9, {})
    alone = ServerStep("adam", 0.1, 0.9, {})("a", CHANGES[0])
    step("b", CHANGES[1])
    assert torch.equal(step("a", CHANGES[0]), alone)


def test_another_optimiser_is_an_error():
    with pytest.raises(FedgramError, match="sgd"):
        ServerStep("sgd", 0.1, 0.9, {})  # type: ignore[arg-type]
