"""One round at one site."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from fedgram.core.gram import cosine_gram
from fedgram.errors import BackboneError
from fedgram.model import lora
from fedgram.records import GlobalState, SiteUpdate
from fedgram.sites.opening import open_site
from fedgram.sites.single import SingleSite
from fedgram.sites.state import set_rates
from fedgram.training import contracts, geometry, rounds
from fedgram.training.server import agree
from toy import Toy
from transformers import LlamaConfig, LlamaForCausalLM


def first_state(toy: Toy) -> GlobalState:
    return agree([rounds.introduce(toy.open(name)) for name in toy.sites], toy.job)[0].state


def trained(site: SingleSite, state: GlobalState) -> SiteUpdate:
    return rounds.local_round(site, state)


def test_an_update_keeps_the_contract_and_changes_every_layer(toy: Toy):
    state = first_state(toy)
    update = trained(toy.open("red"), state)
    contracts.check_update(update, state, toy.job, {}, {})
    assert all(delta.abs().max() > 0 for delta in update.delta_B.values())
    assert set(update.metrics) == {"loss", "task_loss", "cka", "accuracy", "macro_f1", "auroc", "seconds"}
    assert update.m.keys() == update.delta_B.keys()


def test_private_magnitudes_do_not_leave(toy: Toy):
    private = toy.with_job(adapter={"magnitude": "private"})
    site = private.open("red")
    before = lora.get_m(site.model.transformer)
    update = trained(site, first_state(private))
    after = lora.get_m(site.model.transformer)
    assert update.m == {}
    assert any(not torch.equal(before[name], after[name]) for name in before)  # though they train


def test_a_round_is_the_same_in_every_process(toy: Toy):
    state = first_state(toy)
    first, second = (trained(toy.open("green"), state) for _ in range(2))
    assert all(torch.equal(first.delta_B[name], second.delta_B[name]) for name in first.delta_B)
    assert torch.equal(first.gram, second.gram)
    assert first.weight == second.weight


@pytest.mark.parametrize("trains", ["direction", "pipeline"])
def test_the_geometry_loss_reaches_b_but_not_m(toy: Toy, trains: str):
    site = toy.with_job(training={"geometry_trains": trains}).open("red")
    state = first_state(toy)
    generator = torch.Generator().manual_seed(0)
    b = {k: 0.1 * torch.randn(v.shape, generator=generator) for k, v in state.B.items()}
    lora.set_B(site.model.transformer, b)
    geometry.anchor_alignment(site, geometry.represent_anchors(site), state.consensus).backward()
    grads = {name: p.grad for name, p in site.model.transformer.named_parameters() if p.requires_grad}
    magnitudes = [grad for name, grad in grads.items() if "magnitude" in name]
    directions = [grad for name, grad in grads.items() if "lora_B" in name]
    assert magnitudes
    assert all(grad is None or grad.abs().max() == 0 for grad in magnitudes)
    assert all(grad is not None and grad.abs().max() > 0 for grad in directions)
    assert (site.model.adapters[0].linear.weight.grad is not None) == (trains == "pipeline")


def test_the_geometry_loss_aligns(toy: Toy):
    strong = toy.with_job(training={"geometry_weight": 20.0, "local_steps": 30})
    state = first_state(strong)
    alignment = {}
    for weight, run in ((20.0, strong), (0.0, strong.with_job(training={"geometry_weight": 0.0}))):
        site = run.open("green")
        trained(site, state)
        alignment[weight] = geometry.anchor_alignment(
            site, geometry.represent_anchors(site), state.consensus
        ).item()
    assert alignment[20.0] > alignment[0.0] + 0.02


def test_the_optimiser_goes_on_where_it_was(toy: Toy):
    site = toy.open("red")
    state = first_state(toy)
    trained(site, state)
    trained(site, dataclasses.replace(state, round=1))
    steps = {int(moments["step"]) for moments in site.optimizer.state_dict()["state"].values()}
    assert steps == {2 * toy.job.training.local_steps}


def test_rates_fall_in_a_straight_line(toy: Toy):
    """Over three rounds to half: by hand 1, 3/4, 1/2 of both rates; one round alone has them whole."""
    site = toy.open("red")
    for rounds_of_it, shares in ((3, [1.0, 0.75, 0.5]), (1, [1.0])):
        job = toy.with_job(
            training={"rounds": rounds_of_it, "final_rate": 0.5, "learning_rate": 0.4, "local_learning_rate": 0.2}
        ).job
        for round, share in enumerate(shares, 1):
            set_rates(site.optimizer, job, round)
            assert [group["lr"] for group in site.optimizer.param_groups] == [share * 0.4, share * 0.2]


def test_the_last_round_trains_at_the_final_rate(toy: Toy):
    """AdamW's first steps are as long as its rate: who begins in the last round goes a thousandth as far."""
    length = {}
    for final in (1.0, 1e-3):
        falling = toy.with_job(training={"final_rate": final})
        state = dataclasses.replace(first_state(falling), round=toy.job.training.rounds - 1)
        length[final] = sum(float(d.norm()) for d in trained(falling.open("red"), state).delta_B.values())
    assert length[1e-3] == pytest.approx(1e-3 * length[1.0], rel=0.2)


def test_training_alone_has_the_same_rates(toy: Toy):
    changed = {}
    for final in (1.0, 1e-3):
        site = toy.with_job(training={"final_rate": final}).open("red")
        rounds.train_alone(site)
        changed[final] = [group["lr"] for group in site.optimizer.param_groups]
    assert changed[1e-3] == [pytest.approx(1e-3 * rate) for rate in changed[1.0]]


def test_training_alone_leaves_no_trace(toy: Toy):
    state = first_state(toy)
    touched, untouched = toy.open("red"), toy.open("red")
    rounds.train_alone(touched)
    assert any(b.abs().max() > 0 for b in lora.get_B(touched.model.transformer).values())
    rounds.reset(touched)
    first, second = trained(touched, state), trained(untouched, state)
    assert all(torch.equal(first.delta_B[name], second.delta_B[name]) for name in first.delta_B)


def test_the_evaluation_gram_covers_both_anchor_sets(toy: Toy):
    site = toy.with_job(metrics=["accuracy"]).open("blue")
    rounds.adopt(site, first_state(toy))
    evaluation = rounds.evaluation(site)
    contracts.check_evaluation(evaluation, toy.job)
    assert set(evaluation.metrics) == {"accuracy"}  # macro-F1 is computed, but this job does not name it
    b = len(site.anchors.slots)
    assert evaluation.slots == tuple(range(9))  # blue has no anchor of the fourth concept
    torch.testing.assert_close(evaluation.gram[:b, :b], cosine_gram(site.model.embed(site.anchors.tokens)))


@pytest.mark.parametrize("rule", ["precision", "samples", "uniform"])
def test_weights_follow_the_rule(toy: Toy, rule: str):
    run = toy.with_job(aggregation={"weights": rule})
    site = run.open("red")
    n = len(site.data["train"])
    weight = trained(site, first_state(run)).weight
    if rule == "samples":
        assert weight == n
    elif rule == "uniform":
        assert weight == 1.0
    else:
        assert weight == rounds.site_weight(site, _anchors(site), 1)
        assert 1 <= weight <= 100


def _anchors(site: SingleSite) -> torch.Tensor:
    return site.model.embed(site.anchors.tokens)


def test_another_base_model_does_not_train(toy: Toy):
    state = dataclasses.replace(first_state(toy), backbone="0" * 64)
    with pytest.raises(BackboneError, match=r"(?s)red: backbone .tiny.*same checkpoint"):
        _ = trained(toy.open("red"), state)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_causal_language_model_is_as_good_a_backbone(toy: Toy, tmp_path: Path, precision: str):
    """Saved as LlamaForCausalLM, loaded without its head, through a whole round."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=30, **shape)).save_pretrained(tmp_path)
    config = dataclasses.replace(toy.sites["red"], backbones={"tiny": str(tmp_path)}, precision=precision)
    site = open_site("red", config, toy.job)
    introduction = rounds.introduce(site)
    state = agree([introduction, dataclasses.replace(introduction, site="green")], toy.job)[0].state
    update = trained(site, state)
    contracts.check_update(update, state, toy.job, {}, {})
    assert any("q_proj" in name for name in update.delta_B)
    assert not any("lm_head" in name for name in update.delta_B)
