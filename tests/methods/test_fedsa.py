"""FedSA-LoRA against its paper."""

from __future__ import annotations

import torch
from fedgram.model import lora
from fedgram.training import rounds
from one_round import Step, with_method
from toy import Toy


def test_fedsa_shares_a_alone(toy: Toy):
    step = Step(with_method(toy, "fedsa"))
    assert step.after.state.B == {}
    for site in step.sites.values():
        own = lora.get_B(site.model.transformer)[step.layer]
        rounds.adopt(site, step.after.state)
        assert torch.equal(lora.get_B(site.model.transformer)[step.layer], own)
        shared = step.after.state.extra[f"A/{step.layer}"]
        assert torch.equal(lora.get_A(site.model.transformer)[step.layer], shared)
