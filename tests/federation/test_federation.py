"""The same job folder on a provisioned federation: the same result as without FLARE, and what a user finds."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_simulator import assert_same_model, plain
from toy import Toy

from federation.federation import HONEST, provision, running
from federation.leaky import LEAKS, TEXT

pytestmark = pytest.mark.federation


def test_the_federation_and_the_plain_loop_give_the_same_model(toy: Toy, tmp_path: Path):
    with running(toy, tmp_path) as federation:
        job = federation.submit(tmp_path / "job")
        assert federation.wait(job) == "FINISHED:COMPLETED", federation.output(federation.server)[-3000:]
        workspace = federation.download(job, tmp_path / "download")
    outcome = plain(toy, tmp_path / "plain")
    assert_same_model(workspace / "fedgram", outcome)
    metrics = json.loads((workspace / "fedgram/metrics.json").read_text())
    assert metrics["test"] == {site: e.metrics for site, e in outcome.together.items()}
    for site in toy.sites:
        events = EventAccumulator(str(workspace / "tb_events" / site))
        events.Reload()
        assert [e.step for e in events.Scalars("cka")] == [1, 2, 3]
        found = {path.name for path in (federation.kit(site) / "fedgram" / site / "result").iterdir()}
        kept = outcome.kept[site].metrics
        parts = {"home": kept["kept_home"] > 0, "frozen.safetensors": kept["kept_frozen"] > 0}
        always = {"adapter", "kept.json", "local.safetensors", "site.json", "statistics.json"}
        assert found == always | {name for name, there in parts.items() if there}


def test_what_is_not_in_the_contract_stays_at_the_site_whatever_its_executor_does(toy: Toy, tmp_path: Path):
    run = toy.with_job(training={"rounds": len(LEAKS), "local_steps": 1}, baseline=False)
    executors = {**HONEST, "careless": ("leaky.LeakyExecutor", "red")}
    federation = provision(run, tmp_path, executors)
    shutil.copy(federation.kit("red") / "local/privacy.json", federation.kit("careless") / "local/privacy.json")
    try:
        federation.start()
        job = federation.submit(tmp_path / "job")
        federation.wait(job)
        results = federation.download(job, tmp_path / "download") / "fedgram"
    finally:
        federation.stop()
    for reason in ("['embeddings'] stays here", "layer names differ", "does not name: [", "metrics: dict of str"):
        assert reason in federation.output("careless")
    for leak in ("embeddings", TEXT):
        assert leak not in federation.output(federation.server)
        assert leak not in (results / "metrics.json").read_text()
    for record in json.loads((results / "metrics.json").read_text())["rounds"]:
        assert set(record["shares"]) == set(HONEST)
        assert "TASK_RESULT_FILTER_ERROR" in record["rejected"]["careless"]
