"""A bridge site: pairs train a second adapter into the shared transformer; in all else it is an ordinary site."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import fedgram
import own_data
import pandas as pd
import pytest
import torch
from fedgram.config.site import BridgeConfig, Columns
from fedgram.core.contrastive import pair_recall
from fedgram.data.splits import PARTS
from fedgram.errors import CheckpointError, ConfigError, DataError
from fedgram.flare import wire
from fedgram.model import lora
from fedgram.records import GlobalState
from fedgram.sites.pairs import read_pairs
from fedgram.sites.single import Batch, SingleSite
from fedgram.sites.state import restore, snapshot
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from fedgram.training.server import agree
from paired_data import bridged
from toy import Toy


@pytest.fixture(scope="module")
def bridge(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return bridged(toy, tmp_path_factory.mktemp("paired"))


@pytest.fixture(scope="module")
def state(bridge: Toy) -> GlobalState:
    return agree([rounds.introduce(bridge.open(name)) for name in bridge.sites], bridge.job)[0].state


def run(toy: Toy, folder: Path) -> Outcome:
    return run_federation(toy.sessions(folder / "sites"), toy.job, folder / "server")


@pytest.fixture(scope="module")
def finished(bridge: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("bridge")
    return folder, run(bridge.with_job(baseline=False), folder)


def without_bridge(toy: Toy) -> Toy:
    return replace(toy, sites={**toy.sites, "red": replace(toy.sites["red"], bridge=None)})


def with_settings(toy: Toy, **settings: object) -> Toy:
    red = toy.sites["red"]
    assert red.bridge is not None
    return replace(toy, sites={**toy.sites, "red": replace(red, bridge=replace(red.bridge, **settings))})


# What it is for


@pytest.mark.slow
def test_pairs_become_retrievable(bridge: Toy, tmp_path: Path):
    """Test pairs, which no training saw: found by far more than chance, than weight 0, and than their concept."""
    outcome = run(bridge, tmp_path / "bridge")
    silent = run(with_settings(bridge, weight=0.0).with_job(baseline=False), tmp_path / "silent")
    recall = {name: evaluations["red"].metrics["pair_recall"] for name, evaluations in runs(outcome, silent)}
    assert recall["weight 0"] < 0.15
    assert recall["together"] > 0.5
    assert recall["alone"] > 0.5  # the bridge is the site's own, and trains with or without the others
    assert outcome.together["red"].metrics["accuracy"] > 0.9
    first, *_, last = (record.metrics["red"]["bridge_loss"] for record in outcome.server.records)
    assert last < first < math.log(bridge.job.training.batch_size)
    assert "pair_recall" in outcome.server.records[0].metrics["red"]  # of validation


def runs(outcome: Outcome, silent: Outcome):
    return (("together", outcome.together), ("alone", outcome.alone), ("weight 0", silent.together))


def test_what_is_reported_can_be_computed_from_the_result(bridge: Toy, finished: tuple[Path, Outcome]):
    """With pairs read again from both tables and matched by id here."""
    folder, outcome = finished
    model = fedgram.load(folder / "sites", site="red")
    settings = model.site.config.bridge
    table = model.site.channel(1).modality.read(Path(settings.data), settings.reading)
    second = {s.id: s.content for s in table}
    tested = [s for s in model.site.samples("test") if s.id in second]
    z = model.embed([s.content for s in tested])
    other = model.embed([second[s.id] for s in tested], channel=1)
    assert len(tested) > 40
    assert pair_recall(z, other) == pytest.approx(outcome.together["red"].metrics["pair_recall"], abs=1e-9)
    assert pair_recall(z, other.roll(1, 0)) < 0.15


def test_the_second_modality_speaks_to_other_sites_in_the_anchors_of_the_first(finished: tuple[Path, Outcome]):
    red, green = (fedgram.load(finished[0] / "sites", site=name) for name in ("red", "green"))
    parts = {part: red.site.samples(part) for part in PARTS}
    concepts = {s.id: s.concept for s in parts["test"]}
    pairs = read_pairs("red", red.site.config, parts)["test"]
    contents = [pair.sample.content for pair in pairs]
    gallery = red.gallery(contents, [pair.sample.id for pair in pairs], channel=1)
    assert torch.equal(red.coordinates(contents, channel=1), gallery.coordinates(red.site.anchors.slots))
    asked = green.site.samples("test")
    matches = green.retrieve([s.content for s in asked], gallery, k=1)
    right = [concepts[match[0].id] == s.concept for match, s in zip(matches, asked, strict=True)]
    assert sum(right) / len(right) > 0.6  # chance is 1/4


# An ordinary site otherwise


def test_a_bridge_of_weight_0_changes_nothing(bridge: Toy, state: GlobalState):
    """To the last bit: the other parts start, shuffle and train as they would without it."""
    silent, plain = with_settings(bridge, weight=0.0).open("red"), without_bridge(bridge).open("red")
    first, second = rounds.local_round(silent, state), rounds.local_round(plain, state)
    assert all(torch.equal(first.delta_B[name], second.delta_B[name]) for name in second.delta_B)
    assert torch.equal(first.gram, second.gram)
    assert (first.weight, first.samples, first.slots) == (second.weight, second.samples, second.slots)
    own = plain.model.local_state()
    assert all(torch.equal(silent.model.local_state()[name], tensor) for name, tensor in own.items())


def test_what_leaves_has_the_same_names_and_shapes(bridge: Toy, state: GlobalState):
    sites = [toy.with_job(metrics=["accuracy"]).open("red") for toy in (bridge, without_bridge(bridge))]
    described = []
    for site in sites:
        introduction, update = rounds.introduce(site), rounds.local_round(site, state)
        messages = wire.encode_reply(introduction), wire.encode_reply(update)
        messages += (wire.encode_reply(rounds.evaluation(site)),)
        described.append([describe(message) for message in messages])
    assert described[0] == described[1]


def describe(message) -> tuple[dict[str, tuple[torch.Size, torch.dtype]], dict[str, object]]:
    """Names and shapes of the tensors; names of the other values, of those in tables too."""
    tensors = {name: (t.shape, t.dtype) for name, t in (message.params or {}).items()}
    return tensors, {k: sorted(v) if isinstance(v, dict) else type(v) for k, v in (message.meta or {}).items()}


def test_the_bridges_metrics_leave_only_if_the_job_names_them(bridge: Toy, state: GlobalState):
    named = bridge.with_job(metrics=["bridge_loss", "accuracy"]).open("red")
    assert set(rounds.local_round(named, state).metrics) == {"bridge_loss", "accuracy"}
    assert set(rounds.evaluation(named).metrics) == {"accuracy"}
    assert "bridge_loss" not in rounds.local_round(without_bridge(bridge).open("red"), state).metrics


# How it trains


def test_the_contrastive_loss_trains_b_m_and_both_adapters_but_not_the_head(bridge: Toy, state: GlobalState):
    site = bridge.open("red")
    generator = torch.Generator().manual_seed(0)
    direction = {k: 0.1 * torch.randn(v.shape, generator=generator) for k, v in state.B.items()}
    lora.set_B(site.model.transformer, direction)
    site.pair_loss(Batch(torch.arange(8), pairs_of(site, "train", 8))).backward()
    trained = {name: p.grad for name, p in site.model.named_parameters() if p.requires_grad}
    silent = {name for name, grad in trained.items() if grad is None or not grad.abs().max() > 0}
    assert silent == {"head.weight", "head.bias"}
    assert {"adapters.0.linear.weight", "adapters.1.linear.weight"} <= trained.keys()
    assert any("magnitude" in name for name in trained)


def pairs_of(site: SingleSite, split: str, count: int):
    pairs = site.pairs[split]
    return site.data[split].tokens[pairs.rows[:count]], pairs.tokens[torch.arange(count)]


def test_rows_and_tokens_belong_together(bridge: Toy):
    """The tables are in different orders and have strangers; a pair sees one hidden vector, of 8 numbers."""
    site = bridge.open("red")
    pairs = site.pairs
    assert sum(map(len, pairs.values())) == 238
    first, second = (t.values.flatten(1).double() for t in pairs_of(site, "train", len(pairs["train"])))
    torn = second[torch.randperm(len(second), generator=torch.Generator().manual_seed(0))]
    assert explained(first, second) > 0.95
    assert explained(first, torn) < 0.3


def explained(x: torch.Tensor, y: torch.Tensor) -> float:
    """R² of the best linear map."""
    residual = y - x @ (torch.linalg.pinv(x, rtol=1e-6) @ y)
    return 1 - (residual.square().sum() / (y - y.mean(0)).square().sum()).item()


def test_batches_hold_no_pair_twice_and_are_the_same_in_every_process(bridge: Toy):
    site = bridge.with_job(training={"batch_size": 100}).open("red")  # 100 of 168: no two batches from one order
    batches = [batch.pairs[0].values for batch in site.batches(3, 4)]
    assert [len(batch) for batch in batches] == [100] * 4
    assert all(len(batch.flatten(1).unique(dim=0)) == 100 for batch in batches)
    again = [batch.pairs[0].values for batch in bridge.open("red").batches(3, 4)]
    assert len(again[0]) == bridge.job.training.batch_size
    assert not torch.equal(batches[0], batches[1])
    repeated = bridge.with_job(training={"batch_size": 100}).open("red").batches(3, 4)
    assert all(torch.equal(a, b.pairs[0].values) for a, b in zip(batches, repeated, strict=True))
    other_round = next(site.batches(4, 1)).pairs[0].values
    assert not torch.equal(batches[0], other_round)


def test_a_batch_holds_at_least_two_pairs_and_at_most_all(bridge: Toy, state: GlobalState):
    single = bridge.with_job(training={"batch_size": 1, "local_steps": 2}).open("red")
    assert math.isfinite(rounds.local_round(single, state).metrics["bridge_loss"])
    large = bridge.with_job(training={"batch_size": 500}).open("red")
    sizes = {len(batch.pairs[0]) for batch in large.batches(1, 3)}
    assert sizes == {len(large.pairs["train"])}


def test_constants_are_those_of_the_second_modalitys_training_pairs(bridge: Toy):
    site = bridge.open("red")
    tokens = site.pairs["train"].tokens
    first, second = site.model.adapters
    torch.testing.assert_close(second.mean, tokens.values[tokens.mask].mean(0))
    assert not torch.allclose(second.mean, first.mean)


def test_the_weight_scales_the_loss(bridge: Toy, state: GlobalState):
    """Without losses over the anchors, loss − task loss = weight × bridge loss."""
    one_step = {"local_steps": 1, "geometry_weight": 0.0, "concept_weight": 0.0}
    for weight in (0.5, 2.0):
        site = with_settings(bridge, weight=weight).with_job(training=one_step).open("red")
        found = rounds.local_round(site, state).metrics
        assert found["loss"] - found["task_loss"] == pytest.approx(weight * found["bridge_loss"], rel=1e-5)


def test_a_split_with_one_pair_has_no_recall(bridge: Toy):
    site = bridge.open("red")
    one = replace(site.pairs["test"], rows=site.pairs["test"].rows[:1])
    alone = replace(site, pairs={**site.pairs, "test": one})
    assert "pair_recall" in site.evaluate("test")
    assert "pair_recall" not in alone.evaluate("test")


# State


class PowerCut(Exception):
    pass


def test_a_run_goes_on_after_a_power_cut(bridge: Toy, tmp_path: Path):
    """With private m, whose course the bridge's moments and adapter decide as well: the same to the last bit."""
    job = bridge.with_job(adapter={"magnitude": "private"}, baseline=False, training={"local_steps": 4})

    def cut(record) -> None:
        if record.round == 2:
            raise PowerCut

    whole = run(job, tmp_path / "whole")
    with pytest.raises(PowerCut):
        run_federation(job.sessions(tmp_path / "cut/sites"), job.job, tmp_path / "cut/server", cut)
    resumed = run(job, tmp_path / "cut")
    direction = whole.server.state.B
    assert all(torch.equal(b, resumed.server.state.B[name]) for name, b in direction.items())
    assert whole.together["red"].metrics == resumed.together["red"].metrics
    assert torch.equal(whole.together["red"].gram, resumed.together["red"].gram)


def test_the_bridge_is_part_of_the_local_state(bridge: Toy, state: GlobalState):
    site, fresh = bridge.open("red"), bridge.open("red")
    before = snapshot(site.model, site.optimizer)
    assert {"local/bridge.linear.weight", "local/bridge.mean"} <= before.keys()
    assert all(torch.equal(tensor, site.initial[name]) for name, tensor in before.items())
    rounds.local_round(site, state)
    after = snapshot(site.model, site.optimizer)
    assert not torch.equal(before["local/bridge.linear.weight"], after["local/bridge.linear.weight"])
    restore(fresh.model, fresh.optimizer, after)
    assert all(torch.equal(t, after[name]) for name, t in snapshot(fresh.model, fresh.optimizer).items())
    rates = {id(p): group["lr"] for group in site.optimizer.param_groups for p in group["params"]}
    assert rates[id(site.model.adapters[1].linear.weight)] == bridge.job.training.local_learning_rate


def test_a_job_does_not_know_of_it(bridge: Toy):
    assert bridge.job.fingerprint() == without_bridge(bridge).job.fingerprint()
    assert "BLUE" not in json.dumps(fedgram.config.strict.to_dict(bridge.job))


# After the run


def test_a_loaded_site_needs_no_data(finished: tuple[Path, Outcome], bridge: Toy, tmp_path: Path):
    result = finished[0] / "sites/red/result"
    facts = json.loads((result / "site.json").read_text())
    facts["site_config"]["data"] = facts["site_config"]["bridge"]["data"] = "/nowhere.csv"
    copy = Path(shutil.copytree(result, tmp_path / "result"))
    (copy / "site.json").write_text(json.dumps(facts))
    z = fedgram.load(copy).embed([torch.zeros(64).numpy()], channel=1)
    assert torch.equal(z, fedgram.load(result).embed([torch.zeros(64).numpy()], channel=1))
    facts["tokenizers"][1] = "0" * 64
    (copy / "site.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match=r"(?s)red: tokenizer 'patches' of the bridge.*remedy"):
        fedgram.load(copy)


def test_a_site_without_a_bridge_says_so(finished: tuple[Path, Outcome], bridge: Toy):
    green = fedgram.load(finished[0] / "sites", site="green")
    with pytest.raises(ConfigError, match=r"(?s)green: no second modality.*\[bridge\]"):
        green.embed([torch.zeros(64).numpy()], channel=1)


def test_tables_that_do_not_match_are_told_before_training(bridge: Toy):
    with pytest.raises(DataError, match="red: bridge: no pairs"):
        with_settings(bridge, data=bridge.sites["blue"].data).open("red")


# Real data


@pytest.mark.slow
def test_patients_are_found_by_their_blood(tmp_path: Path):
    """Diabetes (Efron 2004): the second table has the blood values of most patients again, in another order.

    Its tokenizer is fitted on the pairs, so that a result can only be loaded while both tables are there.
    """
    toy = own_data.make(tmp_path).with_job(baseline=False, training={"rounds": 4, "local_steps": 20})
    table = pd.read_parquet(tmp_path / "patients.parquet")
    table["id"] = [f"p{i}" for i in range(len(table))]
    table.to_parquet(tmp_path / "patients.parquet")
    blood = table[["id", "s1", "s2", "s3", "s4", "s5", "s6"]].sample(frac=0.9, random_state=0)
    blood.to_csv(tmp_path / "blood.csv", index=False)
    second = BridgeConfig("tabular", str(tmp_path / "blood.csv"), "numeric", columns=Columns(group="id"))
    sites = {"text": toy.sites["text"], "tabular": replace(toy.sites["tabular"], bridge=second)}
    found = run(replace(toy, sites=sites), tmp_path).together["tabular"].metrics
    assert found["pair_recall"] > 0.7  # measured: 0.96 of 73; 0.02 with weight 0
    assert found["r2"] > 0.3
    model = fedgram.load(tmp_path / "sites", site="tabular")
    parts = {part: model.site.samples(part) for part in PARTS}
    pairs = read_pairs("tabular", model.site.config, parts)["test"]
    z = model.embed([parts["test"][pair.row].content for pair in pairs])
    other = model.embed([pair.sample.content for pair in pairs], channel=1)
    assert pair_recall(z, other) == pytest.approx(found["pair_recall"], abs=1e-9)
    (tmp_path / "blood.csv").unlink()
    with pytest.raises(DataError, match=r"blood\.csv: no such file"):
        fedgram.load(tmp_path / "sites", site="tabular")
