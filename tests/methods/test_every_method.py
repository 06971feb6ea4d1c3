"""The contract of a method: every one of them states, runs and refuses the same things."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import fedgram
import pytest
import torch
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.methods import METHODS, method_of
from fedgram.records import RoundRecord
from fedgram.results import report
from fedgram.sites.opening import open_site
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from fedgram.training.server import Round, ServerState
from one_round import Step, with_method
from torch import Tensor
from toy import Toy

OTHERS = sorted(set(METHODS) - {"geo"})
# Two of the kinds of state that a run goes on from: a residual beside A and B, parts within modalities.
QUICK = ("fedex", "xflora")
ALL_BUT_QUICK_SLOW = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in OTHERS]


@pytest.fixture(scope="module", params=OTHERS)
def run(request: pytest.FixtureRequest, toy: Toy) -> Toy:
    return with_method(toy, request.param)


@pytest.fixture(scope="module")
def step(run: Toy) -> Step:
    """Only to look at."""
    return Step(run)


class PowerCut(Exception):
    """The end of a run after its first round."""


def cut(record: RoundRecord) -> None:
    if record.round == 1:
        raise PowerCut


@pytest.mark.parametrize("run", ALL_BUT_QUICK_SLOW, indirect=True)
def test_a_run_survives_a_power_cut_and_its_results_can_be_used_again(run: Toy, tmp_path: Path):
    run = run.with_job(training={"rounds": 2, "local_steps": 2}, baseline=False)
    whole = run_federation(run.sessions(tmp_path / "whole"), run.job, tmp_path / "whole-state")
    with pytest.raises(PowerCut):
        run_federation(run.sessions(tmp_path / "fedgram"), run.job, tmp_path / "state", cut)
    outcome = run_federation(run.sessions(tmp_path / "fedgram"), run.job, tmp_path / "state")
    state, expected = outcome.server.state, whole.server.state
    for found, right in ((state.B, expected.B), (state.extra, expected.extra)):
        assert found.keys() == right.keys()
        assert all(torch.equal(v, right[k]) and v.isfinite().all() for k, v in found.items())
    report.write(tmp_path / "server", outcome, run.job)
    assert (tmp_path / "server/adapter").exists() == bool(state.B)
    for name in run.sites:
        assert torch.equal(outcome.together[name].gram, whole.together[name].gram)
        again = open_site(name, run.sites[name], run.job)
        again = dataclasses.replace(again, model=fedgram.load(tmp_path, site=name).site.model)
        assert rounds.evaluation(again).metrics == outcome.together[name].metrics
        torch.testing.assert_close(rounds.evaluation(again).gram, outcome.together[name].gram)


def test_the_order_of_arrival_changes_nothing(step: Step):
    turned = step.close(step.before, list(step.updates.values())[::-1])
    for before, after in ((step.after.state.B, turned.state.B), extras(step.after, turned)):
        assert before.keys() == after.keys()
        assert all(torch.equal(before[k], after[k]) for k in before)


def extras(a: ServerState, b: ServerState) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
    return a.state.extra, b.state.extra


@pytest.mark.parametrize("name", ["fedex", "fedit", "flora"])
def test_training_alone_is_not_touched_by_what_the_others_shared(toy: Toy, name: str):
    run = with_method(toy, name)
    step = Step(run, count=2)
    site, fresh = step.sites["red"], open_site("red", run.sites["red"], run.job)
    rounds.train_alone(site)
    rounds.train_alone(fresh)
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


@pytest.mark.parametrize("name", [n for n, method in METHODS.items() if method.trains_a])
def test_a_trained_a_leaves_no_dora(toy: Toy, name: str):
    with pytest.raises(ConfigError, match=r"adapter\.dora"):
        method_of(with_method(toy, name, adapter={"dora": True}).job)


@pytest.mark.parametrize("name", [n for n, method in METHODS.items() if issubclass(method, METHODS["local"])])
def test_where_no_weights_are_shared_magnitudes_are_not_either(toy: Toy, name: str):
    """Else every reply is refused in the first round, for an m of layers whose B is not averaged."""
    dora = {"dora": True, "magnitude": "mean"}
    with pytest.raises(ConfigError, match=rf"'{name}': adapter\.magnitude 'mean'"):
        method_of(with_method(toy, name, adapter=dora).job)
    method_of(with_method(toy, name, adapter={"dora": True, "magnitude": "private"}).job)
