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


@pytest.fixture(scope="module", params=OTHERS)
def run(request: pytest.FixtureRequest, toy: Toy) -> Toy:
    return with_method(toy, request.param)


@pytest.fixture(scope="module")
def step(run: Toy) -> Step:
    """Only to look at."""
    return Step(run)


def test_a_run_gives_finite_results_that_can_be_used_again(run: Toy, tmp_path: Path):
    outcome = run_federation(run.sessions(tmp_path / "fedgram"), run.job, tmp_path / "state")
    report.write(tmp_path / "server", outcome, run.job)
    state = outcome.server.state
    assert all(t.isfinite().all() for t in (*state.B.values(), *state.extra.values()))
    assert (tmp_path / "server/adapter").exists() == bool(state.B)
    for name in run.sites:
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
