"""FedAdam against its paper."""

from __future__ import annotations

import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.methods import method_of
from one_round import Step, with_method
from toy import Toy


def test_the_servers_first_step_is_adams(toy: Toy):
    """η m / (√v + τ) with m = (1 − β₁) Δ and v = (1 − β₂) Δ², of each factor."""
    step = Step(with_method(toy, "fedadam", aggregation={"server_learning_rate": 0.01, "server_momentum": 0.9}))
    before, after = step.before.state, step.after.state
    b = step.mean({site: u.delta_B[step.layer] for site, u in step.updates.items()})
    a = step.mean({site: u.extra[f"A/{step.layer}"] for site, u in step.updates.items()})
    moved_b = after.B[step.layer]
    moved_a = after.extra[f"A/{step.layer}"] - before.extra[f"A/{step.layer}"]
    for moved, change in ((moved_b, b), (moved_a, a)):
        expected = 0.01 * 0.1 * change / (0.1 * change.abs() + 1e-3)
        torch.testing.assert_close(moved.double(), expected, atol=1e-6, rtol=1e-4)


def test_another_optimiser_is_not_fedadam(toy: Toy):
    with pytest.raises(ConfigError, match="server_optimizer 'momentum'"):
        method_of(with_method(toy, "fedadam", aggregation={"server_optimizer": "momentum"}).job)
