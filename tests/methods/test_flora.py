"""FLoRA and FedEx-LoRA against their papers."""

from __future__ import annotations

import pytest
import torch
from fedgram.model import lora
from fedgram.training import rounds
from one_round import Step, with_method
from toy import Toy


@pytest.mark.parametrize("name", ["flora", "fedex"])
def test_the_mean_of_the_products_is_exact(toy: Toy, name: str):
    """After the round the whole update at a site is Σ p_k s B_k A_k of what the sites had."""
    step = Step(with_method(toy, name), count=2)
    scale, before = step.run.job.adapter.scale, step.before.state
    products = {}
    for site, update in step.updates.items():
        if name == "flora":
            b, a = update.extra[f"B/{step.layer}"], update.extra[f"A/{step.layer}"]
        else:
            b = before.B[step.layer] + update.delta_B[step.layer]
            a = before.extra[f"A/{step.layer}"] + update.extra[f"A/{step.layer}"]
        products[site] = scale * b.double() @ a.double()
    expected = step.mean(products) + before.extra[f"R/{step.layer}"].double()
    for site in step.sites.values():
        rounds.adopt(site, step.after.state)
        layer = lora.adapted_layers(site.model.transformer)[step.layer]
        assert layer.residual is not None
        whole = layer.residual + scale * layer.B @ layer.A
        torch.testing.assert_close(whole.double(), expected, atol=1e-6, rtol=1e-4)
