"""Baselines on the real simulator: what they share besides B travels both ways, and nothing is lost."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import simulator
import torch
from fedgram.training.loop import run_federation
from safetensors.torch import load_file
from toy import Toy


@pytest.mark.slow
@pytest.mark.parametrize("name", ["creamfl", "fedproto", "fedsa", "flora", "per_modality"])
def test_flare_and_the_plain_loop_share_the_same(toy: Toy, tmp_path: Path, name: str):
    sites = {site: dataclasses.replace(config, methods=(name,)) for site, config in toy.sites.items()}
    run = dataclasses.replace(toy, sites=sites).with_job(
        method={"name": name},
        adapter={"dora": False},
        training={"geometry_weight": 0.0, "concept_weight": 0.0, "rounds": 2, "local_steps": 2},
        baseline=False,
    )
    simulator.prepare(run, tmp_path)
    results = simulator.run(run, tmp_path, clients=3)
    outcome = run_federation(run.sessions(tmp_path / "plain"), run.job, tmp_path / "plain/server")
    shared = load_file(results / "extra.safetensors")
    assert shared.keys() == outcome.server.state.extra.keys()
    assert all(torch.equal(value, shared[k]) for k, value in outcome.server.state.extra.items())
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["test"] == {site: e.metrics for site, e in outcome.together.items()}
    sent = [r.payload_bytes for r in outcome.server.records]
    assert [r["payload_bytes"] for r in metrics["rounds"]] == sent
