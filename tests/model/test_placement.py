"""The frozen base in 8 and 4 bits, spread over devices, and computed again instead of kept."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram.config.job import BackboneConfig
from fedgram.errors import BackboneError, ConfigError
from fedgram.model import geo_linear, lora
from fedgram.model.backbone import base_fingerprint, load_backbone, weight_bytes
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale
from fedgram.records import Tokens
from fedgram.sites.device import choose_device
from fedgram.sites.opening import open_site
from fedgram.training import contracts, rounds
from fedgram.training.server import agree
from lora_models import attached, bert
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from toy import Toy
from transformers import LlamaConfig, LlamaForCausalLM

D = 64  # bitsandbytes quantises blocks of 64
SHAPE = {"hidden_size": D, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
QUANTISED = ["int8", "nf4"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(LlamaConfig(vocab_size=40, num_key_value_heads=2, **SHAPE)).save_pretrained(folder)
    return {"llama": str(folder)}


def load(folders: dict[str, str], precision: Any = "fp32", device: str = "cpu") -> nn.Module:
    return load_backbone(BackboneConfig("llama"), folders, precision, device)


def dense(quantised: nn.Module, folders: dict[str, str]) -> nn.Module:
    """A float32 model with the weights that a quantised one stands for."""
    model = load(folders)
    twins = dict(model.named_modules())
    for name, module in quantised.named_modules():
        if isinstance(module, nn.Linear):
            twins[name].weight.data = dequantize_module_weight(module).detach().float()
    return model


def step(model: nn.Module) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    model.zero_grad()
    g = torch.Generator().manual_seed(2)
    dtype = model.get_input_embeddings().weight.dtype
    x = torch.randn(3, 5, D, generator=g).to(dtype).requires_grad_()
    y = model(inputs_embeds=x).last_hidden_state.float()
    (y * torch.randn(y.shape, generator=g)).sum().backward()
    return y.detach(), {k: p.grad.clone() for k, p in model.named_parameters() if p.grad is not None}


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    return ((a - b).norm() / b.norm()).item()


@pytest.mark.parametrize("precision", QUANTISED)
def test_a_quantised_base_gives_the_gradients_of_what_it_stands_for(precision: str, folders: dict[str, str]):
    """Also after a pass without gradients, which on a CPU would repack the weights for inference alone."""
    base = load(folders, precision)
    layers = [module for module in base.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 3 * 7
    assert all(layer.weight.element_size() == 1 for layer in layers)
    assert not any(p.requires_grad for p in base.parameters())
    reference = attached(dense(base, folders))
    model = attached(base)
    expected, expected_grads = step(reference)
    first, grads = step(model)
    assert apart(first, expected) < 0.02  # it computes in bf16
    with torch.no_grad():
        model(inputs_embeds=torch.randn(1, 5, D).bfloat16())
    again, grads_again = step(model)
    assert torch.equal(first, again)
    for name, grad in grads.items():
        assert torch.equal(grad, grads_again[name]), name
        assert apart(grad, expected_grads[name]) < 0.1, name


@pytest.mark.parametrize("precision", QUANTISED)
def test_weights_are_dequantised_when_adapters_are_attached_and_not_in_a_step(
    precision: str, folders: dict[str, str], monkeypatch: pytest.MonkeyPatch
):
    calls = []
    real = geo_linear.dequantize_module_weight
    monkeypatch.setattr(geo_linear, "dequantize_module_weight", lambda m: calls.append(m) or real(m))
    model = attached(load(folders, precision))
    assert len(calls) == 3 * 7
    step(model)
    assert len(calls) == 3 * 7
    layer = next(iter(lora.adapted_layers(model).values()))
    weight = real(layer.get_base_layer()).float()
    b, a = layer.B, layer.lora_A["default"].weight
    norm = (weight + layer.scaling["default"] * b @ a).norm(dim=1)
    _, _, _, scale = layer.factors()
    torch.testing.assert_close(scale, layer.m / norm, rtol=1e-4, atol=1e-5)


# Dettmers 2023, appendix E: the 16 values of NormalFloat.
NORMAL_FLOAT = [
    *(-1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0),
    *(0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0),
]


def test_nf4_is_that_of_qlora(folders: dict[str, str]):
    """Each block of 64 weights holds multiples of those 16 values, and the multiples are quantised themselves."""
    for module in lora.adapted_layers(attached(load(folders, "nf4"))).values():
        weight = module.get_base_layer().weight
        blocks = dequantize_module_weight(module.get_base_layer()).float().reshape(-1, 64)
        values = blocks / blocks.abs().amax(1, keepdim=True)
        nearest = (values[..., None] - torch.tensor(NORMAL_FLOAT)).abs().amin(-1)
        assert nearest.max() < 0.01  # dequantised to bf16
        assert weight.quant_state.nested
        assert weight.quant_state.absmax.dtype == torch.uint8


def test_sites_agree_on_a_checkpoint_however_they_store_it(folders: dict[str, str]):
    config, prints, sizes = BackboneConfig("llama"), set(), []
    for precision in ("fp32", "bf16", "int8", "nf4"):
        model = load(folders, precision)
        prints.add(base_fingerprint(model, config, folders))
        sizes.append(weight_bytes(config, folders, precision))
        assert sizes[-1] == pytest.approx(model.get_memory_footprint(), rel=0.05)
    assert len(prints) == 1
    assert sizes == sorted(sizes, reverse=True)
    assert base_fingerprint(load(folders), BackboneConfig("llama"), folders) in prints


@pytest.mark.parametrize("precision", QUANTISED)
def test_a_site_with_a_quantised_base_takes_part(precision: str, toy: Toy, folders: dict[str, str]):
    job = toy.with_job(backbone={"name": "llama"}, training={"local_steps": 2}).job
    sites = [
        open_site("red", dataclasses.replace(toy.sites["red"], backbones=folders, precision=kind), job)
        for kind in (precision, "fp32")
    ]
    introductions = [rounds.introduce(site) for site in sites]
    introductions[1] = dataclasses.replace(introductions[1], site="green")
    state = agree(introductions, job)[0].state
    update = rounds.local_round(sites[0], state)
    contracts.check_update(update, state, job, {}, {})
    assert all(delta.abs().sum() > 0 for delta in update.delta_B.values())


def test_without_bitsandbytes(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedgram.model.placement.importlib.util.find_spec", lambda name: None)
    with pytest.raises(BackboneError, match=r"(?s)'nf4' needs the package bitsandbytes.*fedgram\[quantised\]"):
        load(folders, "nf4")


def saved_bytes(model: nn.Module) -> int:
    """What a forward pass keeps for the backward pass."""
    sizes = []
    x = torch.randn(4, 32, D, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: sizes.append(t.nbytes) or t, lambda t: t):
        model(inputs_embeds=x)
    return sum(sizes)


def test_layers_computed_again_give_the_same_and_keep_less(folders: dict[str, str]):
    plain, again = attached(load(folders)), attached(load(folders))
    recompute_layers(again)
    assert list(plain.state_dict()) == list(again.state_dict())
    assert saved_bytes(again) < 0.2 * saved_bytes(plain)
    (y, grads), (y2, grads2) = step(plain), step(again)
    assert torch.equal(y, y2)
    assert grads.keys() == grads2.keys()
    assert all(torch.equal(grads[k], grads2[k]) for k in grads)


def test_an_encoder_can_be_computed_again(folders: dict[str, str]):
    model = attached(bert())
    recompute_layers(model)
    model(
        inputs_embeds=torch.randn(2, 5, 32), attention_mask=torch.ones(2, 5).long()
    ).last_hidden_state.sum().backward()
    assert all(layer.B.grad is not None for layer in lora.adapted_layers(model).values())
    with pytest.raises(BackboneError, match="Linear has no layers"):
        recompute_layers(nn.Linear(2, 2))


def test_the_second_pass_sees_m_as_the_first_did(folders: dict[str, str]):
    """The geometry loss is computed with m detached, the task loss without, and one backward runs both again."""
    gradients = []
    for again in (False, True):
        model = attached(load(folders))
        if again:
            recompute_layers(model)
        x = torch.randn(2, 5, D, generator=torch.Generator().manual_seed(3))
        task = model(inputs_embeds=x).last_hidden_state.sin().sum()
        with lora.detached_m(model):
            geometry = model(inputs_embeds=2 * x).last_hidden_state.cos().sum()
            task.backward(retain_graph=True)
        geometry.backward()
        gradients.append({k: p.grad for k, p in model.named_parameters() if p.grad is not None})
    plain, recomputed = gradients
    assert plain.keys() == recomputed.keys()
    for name, grad in plain.items():
        torch.testing.assert_close(recomputed[name], grad, msg=lambda m, n=name: n + m)


def test_a_round_with_layers_computed_again_is_the_same_round(toy: Toy):
    updates = []
    for again in (False, True):
        site = open_site("red", dataclasses.replace(toy.sites["red"], gradient_checkpointing=again), toy.job)
        introduction = rounds.introduce(site)
        state = agree([introduction, dataclasses.replace(introduction, site="green")], toy.job)[0].state
        updates.append(rounds.local_round(site, state))
    assert all(torch.equal(updates[0].delta_B[k], updates[1].delta_B[k]) for k in updates[0].delta_B)


@pytest.fixture
def small_devices(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Accelerate believes that the first device has room for a part of the model, as GPUs would."""
    from fedgram.model import backbone

    real = backbone.loading_options
    limits = {"max_memory": {"cpu": 200_000}, "offload_folder": str(tmp_path / "offload")}

    def limited(precision: Any, device: str, where: str) -> dict[str, Any]:
        options = real(precision, device, where)
        return options | (limits if options.get("device_map") == "auto" else {})

    monkeypatch.setattr(backbone, "loading_options", limited)


def test_a_base_spread_over_devices_gives_the_same(folders: dict[str, str], small_devices: None):
    """Here the second device is a folder: no machine of the tests has two GPUs."""
    split, whole = load(folders, "fp32", "split"), load(folders)
    assert len(set(split.hf_device_map.values())) == 2
    config = BackboneConfig("llama")
    assert base_fingerprint(split, config, folders) == base_fingerprint(whole, config, folders)
    assert embedding_scale(split) == embedding_scale(whole)
    one, other = attached(whole), attached(split)
    assert lora.spec(one) == lora.spec(other)
    (y, grads), (y2, grads2) = step(one), step(other)
    torch.testing.assert_close(y2, y)
    assert grads.keys() == grads2.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grads2[name], grad, msg=lambda m, n=name: n + m)
    given = Tokens(torch.randn(2, 5, 7), torch.ones(2, 5).bool())
    adapter = TokenAdapter(given, D, embedding_scale(split), torch.Generator().manual_seed(0))
    z = [SiteModel([copy.deepcopy(adapter)], model, nn.Linear(D, 2)).represent(given) for model in (one, other)]
    torch.testing.assert_close(*z)


def test_split_needs_a_gpu(monkeypatch: pytest.MonkeyPatch):
    if torch.cuda.is_available():
        assert choose_device("split").type == "cuda"
        return
    with pytest.raises(ConfigError, match=r"(?s)'split'.*cuda:N or split"):
        choose_device("split")


def test_real_weights_in_every_precision(toy: Toy):
    """MiniLM as it is shipped: sites that store it differently train together, and nearly alike."""
    job = toy.with_job(backbone={"name": "minilm", "layers": 2}, training={"local_steps": 4}).job
    how = {
        "fp32": {},
        "again": {"gradient_checkpointing": True},
        **{precision: {"precision": precision} for precision in ("bf16", "int8", "nf4")},
    }
    state, moved = None, {}
    for name, settings in how.items():
        site = open_site("red", dataclasses.replace(toy.sites["red"], **settings), job)
        if state is None:
            introduction = rounds.introduce(site)
            state = agree([introduction, dataclasses.replace(introduction, site="green")], job)[0].state
        update = rounds.local_round(site, state)
        contracts.check_update(update, state, job, {}, {})
        moved[name] = torch.cat([update.delta_B[k].float().flatten() for k in sorted(update.delta_B)])
    likeness = {name: torch.cosine_similarity(v, moved["fp32"], dim=0).item() for name, v in moved.items()}
    assert torch.equal(moved["again"], moved["fp32"])
    assert likeness["bf16"] > 0.95
    assert likeness["int8"] > 0.8
    assert likeness["nf4"] > 0.5
