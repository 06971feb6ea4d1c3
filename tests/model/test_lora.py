"""GeoLoRA / GeoDoRA layers against stock PEFT, and their checkpoints in a process without fedgram."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from copy import deepcopy

import pytest
import torch
from fedgram.core import dora
from fedgram.errors import BackboneError, CheckpointError
from fedgram.model import lora
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import nn
from transformers import BertConfig, BertModel, GPT2Config, GPT2Model, LlamaConfig, LlamaModel

SETTINGS = {"rank": 4, "alpha": 6.0, "targets": "all-linear"}
SEED = 11


def llama(bias: bool = False, dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=16,
        attention_bias=bias,
        mlp_bias=bias,
    )
    model = LlamaModel(config)
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)
    return model.to(dtype)


def bert() -> nn.Module:
    torch.manual_seed(0)
    config = BertConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, vocab_size=16
    )
    return BertModel(config, add_pooling_layer=False).eval()


def attached(backbone: nn.Module, with_m: bool = True):
    """An attached model with B away from 0 and m away from the norm."""
    model = lora.attach(backbone, dora=with_m, seed=SEED, **SETTINGS)
    g = torch.Generator().manual_seed(1)
    lora.load_direction(
        model, {k: 0.3 * torch.randn(b.shape, generator=g) for k, b in lora.direction(model).items()}
    )
    lora.load_magnitude(
        model, {k: m * (1 + 0.2 * torch.randn(m.shape, generator=g)) for k, m in lora.magnitude(model).items()}
    )
    return model


def stock(backbone: nn.Module, like: nn.Module, with_m: bool):
    """Stock PEFT with the adapter weights of `like`."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
        config = LoraConfig(r=4, lora_alpha=6, target_modules="all-linear", use_dora=with_m, lora_dropout=0.0)
        model = get_peft_model(backbone, config)
    state = get_peft_model_state_dict(like, save_embedding_layers=False)
    assert not set_peft_model_state_dict(model, state).unexpected_keys
    return model


def run(model: nn.Module, dtype: torch.dtype = torch.float32):
    """Output, and gradients of a loss that RMS norm does not make constant, by parameter name."""
    g = torch.Generator().manual_seed(2)
    x = torch.randn(3, 5, 32, generator=g).to(dtype).requires_grad_()
    y = model(inputs_embeds=x).last_hidden_state
    (y.float().sin() * torch.randn(y.shape, generator=g)).sum().backward()
    grads = {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}
    return y.detach(), grads | {"x": x.grad}


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
    model = lora.attach(backbone, dora=with_m, seed=SEED, **SETTINGS)
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected, rtol=1e-6, atol=1e-6)
    trainable = {k.split(".")[-3 if "lora_B" in k or "lora_A" in k else -3] for k, p in model.named_parameters()
                 if p.requires_grad}  # fmt: skip
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


def test_spec_and_copies():
    model = attached(llama(dtype=torch.bfloat16))
    shapes = lora.spec(model)
    assert shapes["base_model.model.layers.0.mlp.up_proj"] == (48, 4, 32)
    before, m = lora.direction(model), lora.magnitude(model)
    assert {k: tuple(v.shape) for k, v in before.items()} == {k: (o, r) for k, (o, r, _) in shapes.items()}
    assert {k: tuple(v.shape) for k, v in m.items()} == {k: (o,) for k, (o, _, _) in shapes.items()}
    lora.load_direction(model, {k: v + 1 for k, v in before.items()})
    lora.load_magnitude(model, {k: v + 1 for k, v in m.items()})
    for name in shapes:
        assert torch.equal(lora.direction(model)[name], before[name] + 1)
        assert torch.equal(lora.magnitude(model)[name], m[name] + 1)
    assert all(not v.requires_grad and v.dtype == torch.float32 for v in (before | m).values())


@pytest.mark.parametrize("spoil", ["missing", "unknown", "shape"])
@pytest.mark.parametrize("part", ["direction", "magnitude"])
def test_wrong_state_is_refused_and_changes_nothing(spoil, part):
    model = attached(llama())
    get, load = getattr(lora, part), getattr(lora, f"load_{part}")
    before = get(model)
    state = {k: v + 1 for k, v in before.items()}
    name = list(state)[-1]
    if spoil == "shape":
        state[name] = state[name][:-1]
    else:
        value = state.pop(name) if spoil == "missing" else state[name]
        state |= {"base_model.model.else": value} if spoil == "unknown" else {}
    with pytest.raises(CheckpointError, match=r"base_model\.model\."):
        load(model, state)
    assert all(torch.equal(v, before[k]) for k, v in get(model).items())


def test_geolora_has_no_magnitude():
    model = attached(llama(), with_m=False)
    assert lora.magnitude(model) == {}
    lora.load_magnitude(model, {})
    with pytest.raises(CheckpointError, match="unknown m"):
        lora.load_magnitude(model, {"base_model.model.layers.0.mlp.up_proj": torch.ones(48)})


def test_detached_magnitude():
    model = attached(llama())
    expected, full = run(model)
    model.zero_grad()
    with lora.detached_magnitude(model):
        with lora.detached_magnitude(model):
            pass
        y, grads = run(model)
    assert torch.equal(y, expected)
    assert not [k for k in grads if "magnitude" in k]
    assert all(torch.equal(g, full[k]) for k, g in grads.items())
    model.zero_grad()
    assert run(model)[1].keys() == full.keys()


def test_detached_forward_lets_an_earlier_graph_train_m():
    model = attached(llama())
    task = model(inputs_embeds=torch.randn(1, 4, 32)).last_hidden_state.sin().sum()
    with lora.detached_magnitude(model):
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
        lora.attach(make(), rank=4, alpha=6, targets=targets, dora=True, seed=SEED)


def test_a_model_without_adapters_is_refused():
    with pytest.raises(BackboneError, match="no adapted layer"):
        lora.direction(llama())


def test_a_second_adapter_is_refused():
    model = attached(llama())
    with pytest.raises(BackboneError, match="a second adapter 'other'"):
        model.add_adapter("other", lora.geo_config(dora=True, **SETTINGS))


def test_casting_after_attaching_is_refused():
    model = attached(llama()).bfloat16()
    with pytest.raises(BackboneError, match=r"cast to torch\.bfloat16 after"):
        model(inputs_embeds=torch.randn(1, 4, 32).bfloat16())


def save(model, folder, **changes):
    given = {
        "direction": lora.direction(model),
        "magnitude": lora.magnitude(model),
        "shapes": lora.spec(model),
        "seed": SEED,
        "rank": 4,
        "alpha": 6.0,
        "base_model": "tiny",
    }
    lora.save_adapter(folder, **(given | changes))


@pytest.mark.parametrize("with_m", [False, True])
def test_checkpoint_without_a_model_equals_that_of_the_live_model(tmp_path, with_m):
    model = attached(bert(), with_m)
    save(model, tmp_path / "geo")
    model.save_pretrained(tmp_path / "stock", save_embedding_layers=False)
    ours, theirs = (load_file(tmp_path / k / "adapter_model.safetensors") for k in ("geo", "stock"))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[key]) for key, value in ours.items())
    ours, theirs = (json.loads((tmp_path / k / "adapter_config.json").read_text()) for k in ("geo", "stock"))
    told_apart = {"target_modules", "base_model_name_or_path", "auto_mapping"}
    assert {k for k in ours if ours[k] != theirs[k]} <= told_apart
    assert sorted(p.name for p in (tmp_path / "geo").iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]


READER = """
import sys, warnings
warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
import torch
from peft import PeftModel
from transformers import AutoModel
base, adapter, batch = sys.argv[1:]
model = PeftModel.from_pretrained(AutoModel.from_pretrained(base, add_pooling_layer=False), adapter).eval()
x, expected = torch.load(batch)
torch.testing.assert_close(model(inputs_embeds=x).last_hidden_state, expected, rtol=1e-5, atol=1e-5)
assert "fedgram" not in sys.modules
"""


@pytest.mark.parametrize("with_m", [False, True])
def test_checkpoint_loads_in_stock_peft(tmp_path, with_m):
    bert().save_pretrained(tmp_path / "base")
    model, x = attached(bert(), with_m).eval(), torch.randn(2, 5, 32)
    save(model, tmp_path / "adapter", base_model=str(tmp_path / "base"))
    torch.save((x, model(inputs_embeds=x).last_hidden_state.detach()), tmp_path / "batch.pt")
    arguments = [tmp_path / "base", tmp_path / "adapter", tmp_path / "batch.pt"]
    done = subprocess.run([sys.executable, "-c", READER, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_saving_again_replaces_the_checkpoint(tmp_path):
    model = attached(llama())
    (tmp_path / "note.txt").write_text("kept")
    save(model, tmp_path)
    save(model, tmp_path, magnitude={})
    assert not [k for k in load_file(tmp_path / "adapter_model.safetensors") if "magnitude" in k]
    assert json.loads((tmp_path / "adapter_config.json").read_text())["use_dora"] is False
    assert (tmp_path / "note.txt").read_text() == "kept"


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
    model = attached(llama())
    name = "base_model.model.layers.0.mlp.up_proj"
    shapes, b, m = lora.spec(model), lora.direction(model), lora.magnitude(model)
    for changes in (
        {"rank": 8},
        {"shapes": shapes | {"layers.0": (48, 4, 32)}},
        {"direction": {k: v for k, v in b.items() if k != name}},
        {"direction": b | {name: b[name].T}},
        {"magnitude": m | {name: m[name][1:]}},
    ):
        with pytest.raises(CheckpointError):
            save(model, tmp_path / "adapter", **changes)
    assert not (tmp_path / "adapter").exists()
