"""Unified sites beside a site of one modality, on a provisioned federation: the same model as without FLARE."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import simulator
from fedgram.training.loop import run_federation
from test_simulator import assert_same_model
from unified_toy import make

from federation.federation import provision

pytestmark = pytest.mark.federation


def test_unified_sites_train_on_a_federation_as_without_it(tmp_path: Path):
    toy = make(tmp_path / "unified").only("one", "answers", "red")
    run = replace(toy, root=toy.root / "toy")
    federation = provision(run, tmp_path, {name: (simulator.HONEST, name) for name in run.sites})  # type: ignore
    for name in ("one", "answers"):
        path = tmp_path / f"job/app_{name}/config/config_fed_client.json"
        client = json.loads(path.read_text())
        client["executors"][0]["executor"]["args"] = {"modality": "unified"}
        path.write_text(json.dumps(client))
    try:
        federation.start()
        job = federation.submit(tmp_path / "job")
        assert federation.wait(job) == "FINISHED:COMPLETED", federation.output(federation.server)[-3000:]
        workspace = federation.download(job, tmp_path / "download")
    finally:
        federation.stop()
    outcome = run_federation(toy.sessions(tmp_path / "plain"), toy.job, tmp_path / "plain/server")
    assert_same_model(workspace / "fedgram", outcome)
    metrics = json.loads((workspace / "fedgram/metrics.json").read_text())
    assert metrics["test"] == {site: e.metrics for site, e in outcome.together.items()}
    assert metrics["test"]["one"]["vqa_accuracy"] >= 0
