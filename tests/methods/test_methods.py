"""Every method on the toy federation, and each against what its paper says of one round."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path

import fedgram
import pytest
import torch
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.methods import METHODS, method_of
from fedgram.methods.base import TaskLoss
from fedgram.methods.fedit import factors_of
from fedgram.model import lora
from fedgram.records import RoundRecord, SiteUpdate
from fedgram.results import report
from fedgram.sites.single import open_site
from fedgram.training import local
from fedgram.training.loop import run_federation
from fedgram.training.server import Round, ServerState, agree
from peft import LoraConfig, get_peft_model
from peft.tuners.lora.layer import Linear
from torch import Tensor
from torch.nn.functional import normalize
from toy import Toy

SETTINGS = {"fedhenn": {"geometry_weight": 1.0, "geometry_trains": "pipeline"}}


def with_method(toy: Toy, name: str, **changes: object) -> Toy:
    """The toy with another method, and a second site of the red modality."""
    sites = {**toy.sites, "crimson": toy.sites["red"]}
    allowed = {site: dataclasses.replace(config, methods=(name,)) for site, config in sites.items()}
    plain = {
        "method": {"name": name, "strength": 0.5},
        "adapter": {"dora": False},
        "training": {"geometry_weight": 0.0, "concept_weight": 0.0, "rounds": 3, **SETTINGS.get(name, {})},
        "aggregation": {"weights": "samples"},
        "baseline": False,
    }
    return dataclasses.replace(toy, sites=allowed).with_job(**plain).with_job(**changes)


@pytest.fixture(scope="module", params=sorted(set(METHODS) - {"geo"}))
def run(request: pytest.FixtureRequest, toy: Toy) -> Toy:
    return with_method(toy, request.param)


@pytest.fixture(scope="module")
def step(run: Toy) -> Step:
    """Only to look at."""
    return Step(run)


class Step:
    """One round, by hand: the sites' updates, and the state before and after."""

    def __init__(self, run: Toy, rounds: int = 1):
        self.run = run
        self.sites = {name: open_site(name, config, run.job) for name, config in run.sites.items()}
        self.after, _ = agree([local.introduce(site) for site in self.sites.values()], run.job)
        for _ in range(rounds):
            self.before = self.after
            self.updates = {name: local.local_round(site, self.before.state) for name, site in self.sites.items()}
            self.after = self.close(self.before, self.updates.values())

    def close(self, before: ServerState, updates: Iterable[SiteUpdate]) -> ServerState:
        current = Round(before, self.run.job, self.sites)
        for update in updates:
            current.add(update)
        return current.close()

    @property
    def layer(self) -> str:
        return next(iter(self.before.spec.shapes))

    def mean(self, values: dict[str, Tensor]) -> Tensor:
        """Weighted by samples, the slow way."""
        total = sum(self.updates[site].weight for site in values)
        return sum(self.updates[site].weight * value.double() for site, value in values.items()) / total


def test_a_run_gives_finite_results_that_can_be_used_again(run: Toy, tmp_path: Path):
    outcome = run_federation(run.sessions(tmp_path / "fedgram"), run.job, tmp_path / "state")
    report.write(tmp_path / "server", outcome, run.job)
    state = outcome.server.state
    assert all(t.isfinite().all() for t in (*state.B.values(), *state.extra.values()))
    assert (tmp_path / "server/adapter").exists() == bool(state.B)
    for name in run.sites:
        again = open_site(name, run.sites[name], run.job)
        again = dataclasses.replace(again, model=fedgram.load(tmp_path, site=name).site.model)
        assert local.evaluation(again).metrics == outcome.together[name].metrics
        torch.testing.assert_close(local.evaluation(again).gram, outcome.together[name].gram)


def test_the_order_of_arrival_changes_nothing(step: Step):
    turned = step.close(step.before, list(step.updates.values())[::-1])
    for before, after in ((step.after.state.B, turned.state.B), extras(step.after, turned)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)


def extras(a: ServerState, b: ServerState) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    return a.state.extra, b.state.extra


@pytest.mark.parametrize("name", ["creamfl", "fedex", "fedsa", "flora", "per_modality"])
def test_an_interrupted_run_ends_at_the_same_model(toy: Toy, name: str, tmp_path: Path):
    class PowerCut(Exception):
        pass

    def cut(record: RoundRecord) -> None:
        if record.round == 1:
            raise PowerCut

    short = with_method(toy, name).with_job(training={"rounds": 2})
    whole = run_federation(short.sessions(tmp_path / "a"), short.job, tmp_path / "a/server")
    with pytest.raises(PowerCut):
        run_federation(short.sessions(tmp_path / "b"), short.job, tmp_path / "b/server", cut)
    resumed = run_federation(short.sessions(tmp_path / "b"), short.job, tmp_path / "b/server")
    assert all(torch.equal(v, resumed.server.state.extra[k]) for k, v in whole.server.state.extra.items())
    assert all(torch.equal(v, resumed.server.state.B[k]) for k, v in whole.server.state.B.items())
    for site, evaluation in whole.together.items():
        assert torch.equal(evaluation.gram, resumed.together[site].gram)


@pytest.mark.parametrize("name", ["fedex", "fedit", "flora"])
def test_training_alone_is_not_touched_by_what_the_others_shared(toy: Toy, name: str):
    run = with_method(toy, name)
    step = Step(run, rounds=2)
    site, fresh = step.sites["red"], open_site("red", run.sites["red"], run.job)
    local.train_alone(site)
    local.train_alone(fresh)
    tokens = site.anchors.tokens
    assert torch.equal(site.model.embed(tokens), fresh.model.embed(tokens))


def test_what_breaks_the_contract_of_a_method_is_refused(step: Step):
    good = step.updates["red"]
    wrong = [{**good.extra, "embeddings": torch.zeros(3, 4)}]
    if good.extra:
        name, value = next(iter(good.extra.items()))
        wrong += [{}, {**good.extra, name: value[1:]}, {**good.extra, name: value * float("nan")}]
        wrong += [{**good.extra, name: value.double()}, {**good.extra, name: value * 1e9}]
    for extra in wrong:
        current = Round(step.before, step.run.job, step.sites)
        with pytest.raises(UpdateRejected):
            current.add(dataclasses.replace(good, extra=extra))
        assert current.accepted == ()


def test_a_site_runs_what_its_own_file_allows(run: Toy):
    config = dataclasses.replace(run.sites["red"], methods=("geo",))
    with pytest.raises(ConfigError, match=f"red: methods: the job runs method '{run.job.method.name}'") as e:
        open_site("red", config, run.job)
    assert "add" in str(e.value)


# What each paper says of one round


def test_fedit_averages_both_factors(toy: Toy):
    step = Step(with_method(toy, "fedit"))
    b = step.mean({site: u.delta_B[step.layer] for site, u in step.updates.items()})
    a = step.mean({site: u.extra[f"A/{step.layer}"] for site, u in step.updates.items()})
    first = step.before.state
    torch.testing.assert_close(step.after.state.B[step.layer], b.float())
    torch.testing.assert_close(
        step.after.state.extra[f"A/{step.layer}"], (first.extra[f"A/{step.layer}"] + a).float()
    )


def test_ffa_is_geolora_without_its_geometry_loss(toy: Toy):
    ffa, geo = Step(with_method(toy, "ffa")), Step(with_method(toy, "geo"))
    assert all(torch.equal(b, geo.after.state.B[k]) for k, b in ffa.after.state.B.items())
    for changes in ({"adapter": {"dora": True}}, {"training": {"geometry_weight": 0.1}}):
        with pytest.raises(ConfigError, match="geometry_weight 0"):
            method_of(with_method(toy, "ffa", **changes).job)


def test_fedsa_shares_a_alone(toy: Toy):
    step = Step(with_method(toy, "fedsa"))
    assert step.after.state.B == {}
    for site in step.sites.values():
        own = lora.get_B(site.model.transformer)[step.layer]
        local.adopt(site, step.after.state)
        assert torch.equal(lora.get_B(site.model.transformer)[step.layer], own)
        shared = step.after.state.extra[f"A/{step.layer}"]
        assert torch.equal(lora.get_A(site.model.transformer)[step.layer], shared)


@pytest.mark.parametrize("name", ["flora", "fedex"])
def test_the_mean_of_the_products_is_exact(toy: Toy, name: str):
    """After the round the whole update at a site is Σ p_k s B_k A_k of what the sites had."""
    step = Step(with_method(toy, name), rounds=2)
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
        local.adopt(site, step.after.state)
        layer = lora.adapted_layers(site.model.transformer)[step.layer]
        assert layer.residual is not None
        whole = layer.residual + scale * layer.B @ layer.A
        torch.testing.assert_close(whole.double(), expected, atol=1e-6, rtol=1e-4)


def test_fedprox_pulls_back(toy: Toy):
    """½ μ ‖θ − θ_global‖², by hand: every entry of B and A moved by 0.1."""
    run = with_method(toy, "fedprox")
    site = open_site("red", run.sites["red"], run.job)
    state = agree([local.introduce(site), local.introduce(dataclasses.replace(site, name="b"))], run.job)[0].state
    local.adopt(site, state)
    z, rows = torch.zeros(2, 32), torch.arange(2)
    assert site.method.penalty(site, state, TaskLoss(z.sum(), z, rows)) == 0
    count = 0
    for layer in lora.adapted_layers(site.model.transformer).values():
        for factor in (layer.B, layer.A):
            factor.data += 0.1
            count += factor.numel()
    assert site.method.penalty(site, state, TaskLoss(z.sum(), z, rows)).item() == pytest.approx(
        0.5 * 0.5 * count * 0.01, rel=1e-4
    )


def test_fedproto_averages_the_classes_that_a_site_has(toy: Toy):
    step = Step(with_method(toy, "fedproto"))
    concepts = sorted(set(step.run.job.anchors.concepts))
    state = step.after.state
    moss = concepts.index("moss")  # blue has none
    expected = step.mean({site: u.extra["prototypes"][moss] for site, u in step.updates.items() if site != "blue"})
    torch.testing.assert_close(state.extra["prototypes"][moss], expected.float())
    assert state.extra["known"].tolist() == [1.0] * 4
    site = step.sites["red"]
    data, z = site.data["train"], site.model.embed(site.data["train"].tokens)
    for index, concept in enumerate(concepts):
        rows = [i for i, c in enumerate(data.concepts) if c == concept]
        torch.testing.assert_close(step.updates["red"].extra["prototypes"][index], z[rows].mean(0))
    rows = torch.tensor([0, 5])
    distance = sum(
        (z[i] - state.extra["prototypes"][concepts.index(data.concepts[i])]).square().mean() for i in rows.tolist()
    )
    assert site.method.penalty(site, state, TaskLoss(z.sum(), z[rows], rows)).item() == pytest.approx(
        0.5 * distance.item() / 2, rel=1e-5
    )
    assert site.method.penalty(site, step.before.state, TaskLoss(z.sum(), z[rows], rows)) is None


def test_creamfl_contrasts_with_the_mean_of_the_others(toy: Toy):
    step = Step(with_method(toy, "creamfl"))
    state, site = step.after.state, step.sites["blue"]
    moss = [i for i, c in enumerate(step.run.job.anchors.concepts) if c == "moss"]
    expected = step.mean({s: u.extra["public"][moss] for s, u in step.updates.items() if s != "blue"})
    torch.testing.assert_close(state.extra["public"][moss], expected.float())
    own, public = (
        normalize(site.model.embed(site.anchors.tokens), dim=-1),
        normalize(state.extra["public"], dim=-1),
    )
    scores = (own @ public.T / 0.1).exp()
    loss = -sum((scores[row, slot] / scores[row].sum()).log() for row, slot in enumerate(site.anchors.slots))
    rows = torch.arange(2)
    penalty = site.method.penalty(site, state, TaskLoss(torch.zeros(()), torch.zeros(2, 32), rows))
    assert penalty.item() == pytest.approx(0.5 * loss.item() / len(site.anchors.slots), rel=1e-4)
    assert (
        site.method.penalty(site, step.before.state, TaskLoss(torch.zeros(()), torch.zeros(2, 32), rows)) is None
    )


def test_fedcola_shares_attention_and_nothing_else(toy: Toy):
    step = Step(with_method(toy, "fedcola"))
    shared = set(step.after.state.B)
    assert shared == {k for k in step.after.spec.shapes if ".attention." in k} != set(step.after.spec.shapes)
    assert set(factors_of(step.after.state.extra, "A")) == shared
    method = step.sites["red"].method
    names = ("model.layers.3.self_attn.q_proj", "layers.0.attn.qkv", "h.0.attention.dense", "layers.0.mlp.up_proj")
    assert [method.shares_b(name) for name in names] == [True, True, True, False]


def test_sites_of_one_modality_train_together(toy: Toy):
    step = Step(with_method(toy, "per_modality"))
    name = f"B/{step.layer}"
    red = step.mean({site: step.updates[site].extra[name] for site in ("red", "crimson")})
    torch.testing.assert_close(step.after.state.extra[f"red/{name}"], red.float())
    torch.testing.assert_close(step.after.state.extra[f"green/{name}"], step.updates["green"].extra[name].float())
    alone = Step(with_method(toy, "local"))
    assert step.after.state.B == alone.after.state.B == {}
    total = sum(step.after.records[-1].shares.values())
    assert total == pytest.approx(1.0)


def test_one_half_of_the_ranks_belongs_to_the_modality(toy: Toy):
    step = Step(with_method(toy, "xflora"))
    name, half = f"B/{step.layer}", step.run.job.adapter.rank // 2
    everybody = step.mean({site: u.extra[name] for site, u in step.updates.items()})
    red = step.mean({site: step.updates[site].extra[name] for site in ("red", "crimson")})
    got = step.after.state.extra[f"red/{name}"]
    torch.testing.assert_close(got[:, :half], everybody[:, :half].float())
    torch.testing.assert_close(got[:, half:], red[:, half:].float())


def test_a_site_that_was_not_there_in_round_0_has_no_modality(toy: Toy):
    step = Step(with_method(toy, "per_modality"))
    current = Round(step.before, step.run.job, step.sites)
    with pytest.raises(UpdateRejected, match="not there in round 0"):
        current.add(dataclasses.replace(step.updates["red"], site="late"))


def test_fedhenn_learns_from_the_grams_alone(toy: Toy):
    step = Step(with_method(toy, "fedhenn"))
    assert step.after.state.B == step.after.state.extra == {}
    alone = Step(with_method(toy, "local"))
    gram = step.updates["red"].gram
    assert not torch.allclose(gram, alone.updates["red"].gram)
    with pytest.raises(ConfigError, match="geometry_weight 0"):
        method_of(with_method(toy, "fedhenn", training={"geometry_weight": 0.0}).job)


@pytest.mark.parametrize("name", [n for n, method in METHODS.items() if method.trains_a])
def test_a_trained_a_leaves_no_dora(toy: Toy, name: str):
    with pytest.raises(ConfigError, match=r"adapter\.dora"):
        method_of(with_method(toy, name, adapter={"dora": True}).job)


def test_a_trained_a_has_the_gradient_of_stock_lora():
    torch.manual_seed(0)
    x, weights = torch.randn(5, 7, 8), torch.randn(5, 7, 6)
    models = []
    for attach in (_geo, _stock):
        model = attach(torch.nn.Sequential(torch.nn.Linear(8, 6)))
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
    return lora.attach(base, rank=3, alpha=6.0, targets=["0"], dora=False, seed=0, train_a=True)


def _stock(base: torch.nn.Module) -> torch.nn.Module:
    return get_peft_model(base, LoraConfig(r=3, lora_alpha=6, target_modules=["0"]))
