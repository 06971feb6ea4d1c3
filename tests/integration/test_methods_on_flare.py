"""Baselines on the real simulator: what they share besides B travels both ways, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
import simulator
import torch
from fedgram.training.loop import run_federation
from safetensors.torch import load_file
from toy import ROOT, Toy


def prepare(toy: Toy, folder: Path, name: str) -> Toy:
    """The toy with a method that its sites allow, ready for the simulator."""
    sites = {site: dataclasses.replace(config, methods=(name,)) for site, config in toy.sites.items()}
    run = dataclasses.replace(toy, sites=sites).with_job(
        method={"name": name},
        adapter={"dora": False},
        training={"geometry_weight": 0.0, "concept_weight": 0.0, "rounds": 2, "local_steps": 2},
        baseline=False,
    )
    simulator.prepare(run, folder)
    return run


@pytest.mark.slow
@pytest.mark.parametrize("name", ["creamfl", "fedproto", "fedsa", "flora", "per_modality"])
def test_flare_and_the_plain_loop_share_the_same(toy: Toy, tmp_path: Path, name: str):
    run = prepare(toy, tmp_path, name)
    assert_same(run, simulator.run(run, tmp_path, clients=3), tmp_path)


@pytest.fixture
def installed(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> str:
    """The import path of the worked example, which every process finds."""
    shutil.copy(ROOT / "examples/my_methods.py", toy.root / "modules")
    return "my_methods:ClippedMean"


@pytest.mark.slow
def test_a_method_of_ones_own_runs_where_sites_and_server_allow_it(toy: Toy, tmp_path: Path, installed: str):
    run = prepare(toy, tmp_path, installed)
    with open(tmp_path / "workspace/local/fedgram/server.toml", "a") as file:
        file.write(f'methods = ["{installed}"]\n')
    assert_same(run, simulator.run(run, tmp_path, clients=3), tmp_path)


@pytest.mark.slow
def test_a_server_that_does_not_list_it_refuses_the_job(toy: Toy, tmp_path: Path, installed: str):
    run = prepare(toy, tmp_path, installed)
    assert not simulator.run(run, tmp_path, clients=3).exists()
    log = (tmp_path / "simulator.log").read_text()
    assert "server.toml: methods: the job runs method 'my_methods:ClippedMean', which is foreign code" in log


def assert_same(run: Toy, results: Path, folder: Path) -> None:
    """The plain loop ends where FLARE did."""
    outcome = run_federation(run.sessions(folder / "plain"), run.job, folder / "plain/server")
    shared = load_file(results / "extra.safetensors")
    assert shared.keys() == outcome.server.state.extra.keys()
    assert all(torch.equal(value, shared[k]) for k, value in outcome.server.state.extra.items())
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["test"] == {site: e.metrics for site, e in outcome.together.items()}
    sent = [r.payload_bytes for r in outcome.server.records]
    assert [r["payload_bytes"] for r in metrics["rounds"]] == sent
