"""FedIT against its paper, and a trained A against stock LoRA."""

from __future__ import annotations

import torch
from fedgram.model.attaching import attach
from one_round import Step, with_method
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from toy import Toy


def test_fedit_averages_both_factors(toy: Toy):
    step = Step(with_method(toy, "fedit"))
    b = step.mean({site: u.delta_B[step.layer] for site, u in step.updates.items()})
    a = step.mean({site: u.extra[f"A/{step.layer}"] for site, u in step.updates.items()})
    first = step.before.state
    torch.testing.assert_close(step.after.state.B[step.layer], b.float())
    torch.testing.assert_close(
        step.after.state.extra[f"A/{step.layer}"], (first.extra[f"A/{step.layer}"] + a).float()
    )


def test_a_trained_a_has_the_gradient_of_stock_lora():
    torch.manual_seed(0)
    x, weights = torch.randn(5, 7, 8), torch.randn(5, 7, 6)
    models = []
    for make in (_geo, _stock):
        model = make(torch.nn.Sequential(torch.nn.Linear(8, 6)))
        (layer,) = (m for m in model.modules() if isinstance(m, Linear))
        with torch.no_grad():
            layer.get_base_layer().weight.copy_(torch.arange(48.0).view(6, 8) / 48)
            layer.get_base_layer().bias.fill_(0.5)
            layer.lora_A["default"].weight.copy_(torch.arange(24.0).view(3, 8) / 24 - 0.4)
            layer.lora_B["default"].weight.copy_(torch.arange(18.0).view(6, 3) / 18 - 0.4)
        (model(x) * weights).sum().backward()
        models.append([model(x), layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad])
    for ours, stock in zip(*models, strict=True):
        assert stock.abs().max() > 0.1
        torch.testing.assert_close(ours, stock)


def _geo(base: torch.nn.Module) -> torch.nn.Module:
    return attach(base, rank=3, alpha=6.0, targets=["0"], dora=False, seed=0, train_a=True)


def _stock(base: torch.nn.Module) -> torch.nn.Module:
    return get_peft_model(base, LoraConfig(r=3, lora_alpha=6, target_modules=["0"]))
