"""GeoLoRA / GeoDoRA layers against stock PEFT."""

from __future__ import annotations

import warnings
from copy import deepcopy

import pytest
import torch
from fedgram.core import dora
from fedgram.errors import BackboneError
from fedgram.model import lora
from fedgram.model.attaching import attach, geo_config
from lora_models import SEED, SETTINGS, attached, bert, llama, run
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn
from transformers import GPT2Config, GPT2Model


def stock(backbone: nn.Module, like: nn.Module, with_m: bool):
    """Stock PEFT with the adapter weights of `like`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", use_dora=with_m, lora_dropout=0.0)
        model = get_peft_model(backbone, config)
    state = get_peft_model_state_dict(like, save_embedding_layers=False)
    assert not set_peft_model_state_dict(model, state).unexpected_keys
    return model


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a.double() - b.double()).norm() / b.double().norm()).item()


@pytest.mark.parametrize("with_m", [False, True])
@pytest.mark.parametrize("make", [llama, lambda: llama(bias=True), bert])
def test_equals_stock_peft(make, with_m):
    model = attached(make(), with_m)
    peft = stock(make(), model, with_m)
    (y, grads), (expected, expected_grads) = run(model), run(peft)
    torch.testing.assert_close(y, expected, rtol=1e-5, atol=1e-5)
    assert expected_grads.keys() - grads.keys() == {k for k in expected_grads if "lora_A" in k}
    assert not grads.keys() - expected_grads.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-4, atol=1e-4, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("bias", [False, True])
def test_bfloat16_is_as_close_to_the_truth_as_stock_peft(bias):
    """Both round; neither is the reference. That is the same model in float64."""
    model = attached(llama(bias, torch.bfloat16))
    peft = stock(llama(bias, torch.bfloat16), model, True)
    y, grads = run(model, torch.bfloat16)
    peft_y, peft_grads = run(peft, torch.bfloat16)
    truth, true_grads = run(deepcopy(peft).double(), torch.float64)
    assert y.dtype == torch.bfloat16
    assert distance(y, truth) < 1.5 * distance(peft_y, truth) + 1e-3
    for kind in ("lora_B", "lora_magnitude", "x"):
        ours, theirs = (
            torch.tensor([distance(some[k], true_grads[k]) for k in grads if kind in k]).mean()
            for some in (grads, peft_grads)
        )
        assert ours < 1.5 * theirs + 5e-3, kind


@pytest.mark.parametrize("with_m", [False, True])
def test_attaching_changes_nothing_and_leaves_the_random_state(with_m):
    backbone, x = llama(bias=True), torch.randn(2, 5, 32)
    expected = backbone(inputs_embeds=x).last_hidden_state
    state = torch.get_rng_state()
    model = attach(backbone, dora=with_m, seed=SEED, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected, rtol=1e-6, atol=1e-6)
    trainable = {k.split(".")[-3] for k, p in model.named_parameters() if p.requires_grad}
    assert trainable == ({"lora_B", "lora_magnitude_vector"} if with_m else {"lora_B"})


def test_frozen_a_is_the_seeded_one_and_stays():
    model = attached(llama())
    model.set_adapter("default")
    optimizer = torch.optim.AdamW(p for p in model.parameters() if p.requires_grad)
    run(model)
    optimizer.step()
    for name, layer in lora.adapted_layers(model).items():
        a = layer.lora_A["default"].weight
        assert a.grad is None
        assert torch.equal(a, dora.frozen_a(SEED, name, *a.shape))


def test_constants_stay_out_of_checkpoints_and_follow_the_device():
    model = attached(llama())
    assert not [k for k in model.state_dict() if "norm_base" in k or "norm_mixing" in k]
    layer = next(iter(lora.adapted_layers(model.to("meta")).values()))
    assert layer.norm_base.device.type == layer.norm_mixing.device.type == "meta"


def test_detached_magnitude():
    model = attached(llama())
    expected, full = run(model)
    model.zero_grad()
    with lora.detached_m(model):
        with lora.detached_m(model):
            pass
        y, grads = run(model)
    assert torch.equal(y, expected)
    assert not [k for k in grads if "magnitude" in k]
    assert all(torch.equal(g, full[k]) for k, g in grads.items())
    model.zero_grad()
    assert run(model)[1].keys() == full.keys()


@pytest.mark.parametrize("with_m", [False, True])
def test_untrained_is_the_base_and_what_trains_stays_so(with_m):
    """Also where the forward fails inside."""
    x = torch.randn(1, 4, 32)
    model, base = attached(llama(), with_m), llama()
    trained = model(inputs_embeds=x).last_hidden_state
    learning = {name: p.requires_grad for name, p in model.named_parameters()}

    def fail() -> None:
        with lora.untrained(model):
            assert torch.equal(model(inputs_embeds=x).last_hidden_state, base(inputs_embeds=x).last_hidden_state)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert not torch.equal(trained, base(inputs_embeds=x).last_hidden_state)
    assert torch.equal(model(inputs_embeds=x).last_hidden_state, trained)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == learning


def test_untrained_is_without_the_residual():
    x = torch.randn(1, 4, 32)
    model = attached(llama(bias=True), False)
    shapes = {name: (o, i) for name, (o, _, i) in lora.spec(model).items()}
    lora.set_residual(model, {name: torch.ones(shape) for name, shape in shapes.items()})
    with lora.untrained(model):
        inside = model(inputs_embeds=x).last_hidden_state
    assert torch.equal(inside, llama(bias=True)(inputs_embeds=x).last_hidden_state)


def test_detached_forward_lets_an_earlier_graph_train_m():
    model = attached(llama())
    task = model(inputs_embeds=torch.randn(1, 4, 32)).last_hidden_state.sin().sum()
    with lora.detached_m(model):
        geometry = model(inputs_embeds=torch.randn(1, 4, 32)).last_hidden_state.sin().sum()
        task.backward()
    m = [p for k, p in model.named_parameters() if "magnitude" in k]
    before = [p.grad.clone() for p in m]
    geometry.backward()
    assert all(torch.equal(p.grad, g) and g.abs().sum() > 0 for p, g in zip(m, before, strict=True))


@pytest.mark.parametrize("with_m", [False, True])
@pytest.mark.parametrize("safe", [False, True])
def test_merge_and_unmerge(with_m, safe):
    model = attached(llama(bias=True), with_m).eval()
    x = torch.randn(2, 5, 32)
    expected = model(inputs_embeds=x).last_hidden_state
    model.merge_adapter(safe_merge=safe)
    torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
    model.unmerge_adapter()
    torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected, rtol=1e-4, atol=1e-5)
    merged = model.merge_and_unload()
    torch.testing.assert_close(merged(inputs_embeds=x).last_hidden_state, expected, rtol=1e-4, atol=1e-5)


def test_disabled_adapters_give_the_base():
    x, backbone = torch.randn(2, 5, 32), llama()
    expected = backbone(inputs_embeds=x).last_hidden_state
    model = attached(backbone)
    with model.disable_adapter():
        torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected)


class Quantised(nn.Linear):
    """Stands for a 4-bit layer: integer storage, its own forward, dequantised by a method PEFT knows."""

    dequantised = 0

    def __init__(self, layer: nn.Linear):
        super().__init__(layer.in_features, layer.out_features, bias=layer.bias is not None)
        self.bias = layer.bias
        self.W_q = (layer.weight.detach() * 500).round().to(torch.int8)
        self.weight = nn.Parameter(self.W_q, requires_grad=False)

    def dequantize(self) -> torch.Tensor:
        Quantised.dequantised += 1
        return self.W_q.float() / 500

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.linear(x, self.W_q.float() / 500, self.bias)


def quantised(backbone: nn.Module) -> nn.Module:
    for parent in list(backbone.modules()):
        for name, child in parent.named_children():
            if type(child) is nn.Linear:
                setattr(parent, name, Quantised(child))
    return backbone


@pytest.mark.parametrize("with_m", [False, True])
def test_quantised_base_is_dequantised_once(with_m):
    dense = llama(bias=True)
    for layer in dense.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data = (layer.weight.data * 500).round() / 500
    expected, expected_grads = run(attached(dense, with_m))
    model = attached(quantised(llama(bias=True)), with_m)
    Quantised.dequantised = 0
    y, grads = run(model)
    assert Quantised.dequantised == 0
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-5)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, expected_grads[name], rtol=1e-4, atol=1e-4)
    with pytest.raises(BackboneError, match="cannot merge into a Quantised"):
        model.merge_adapter()


@pytest.mark.parametrize(
    ("make", "targets", "message"),
    [
        (llama, ["nothing_of_that_name"], "no adapter can be attached"),
        (llama, ["embed_tokens"], "cannot be put on a Embedding"),
        (lambda: GPT2Model(GPT2Config(n_embd=32, n_layer=1, n_head=4, vocab_size=16)), ["c_attn"], "on a Conv1D"),
        (lambda: nn.Sequential(nn.MultiheadAttention(32, 4)), ["out_proj"], "NonDynamicallyQuantizableLinear"),
    ],
)
def test_targets_that_cannot_be_adapted(make, targets, message):
    with pytest.raises(BackboneError, match=message):
        attach(make(), rank=4, alpha=6, targets=targets, dora=True, seed=SEED)


def test_a_model_without_adapters_is_refused():
    with pytest.raises(BackboneError, match="no adapted layer"):
        lora.get_B(llama())


def test_a_second_adapter_is_refused():
    model = attached(llama())
    with pytest.raises(BackboneError, match="a second adapter 'other'"):
        model.add_adapter("other", geo_config(dora=True, **SETTINGS))


def test_casting_after_attaching_is_refused():
    model = attached(llama()).bfloat16()
    with pytest.raises(BackboneError, match=r"cast to torch\.bfloat16 after"):
        model(inputs_embeds=torch.randn(1, 4, 32).bfloat16())
