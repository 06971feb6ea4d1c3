"""FedProx against its paper."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fedgram.methods.base import TaskLoss
from fedgram.model import lora
from fedgram.sites.opening import open_site
from fedgram.training import rounds
from fedgram.training.server import agree
from one_round import with_method
from toy import Toy


def test_fedprox_pulls_back(toy: Toy):
    """½ μ ‖θ − θ_global‖², by hand: every entry of B and A moved by 0.1."""
    run = with_method(toy, "fedprox")
    site = open_site("red", run.sites["red"], run.job)
    state = agree([rounds.introduce(site), rounds.introduce(dataclasses.replace(site, name="b"))], run.job)[
        0
    ].state
    rounds.adopt(site, state)
    task = TaskLoss(torch.zeros(()))
    assert site.method.penalty(site, state, task) == 0
    count = 0
    for layer in lora.adapted_layers(site.model.transformer).values():
        for factor in (layer.B, layer.A):
            factor.data += 0.1
            count += factor.numel()
    assert site.method.penalty(site, state, task).item() == pytest.approx(0.5 * 0.5 * count * 0.01, rel=1e-4)
