"""A bridge site on the real simulator: the same result as without FLARE, nothing of its pairs at the server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import simulator
import torch
from fedgram.training.loop import run_federation
from paired_data import bridged
from safetensors.torch import load_file
from toy import Toy


@pytest.mark.slow
def test_flare_and_the_plain_loop_give_the_same_model(toy: Toy, tmp_path: Path):
    run = bridged(toy, tmp_path / "paired").with_job(training={"rounds": 2})
    simulator.prepare(run, tmp_path)
    results = simulator.run(run, tmp_path, clients=3)
    assert (results / "report.png").is_file(), (tmp_path / "simulator.log").read_text()[-3000:]
    plain = run_federation(run.sessions(tmp_path / "plain"), run.job, tmp_path / "plain" / "server")
    saved = load_file(results / "adapter" / "adapter_model.safetensors")
    for name, b in plain.server.state.B.items():
        assert torch.equal(saved[f"{name}.lora_B.weight"], b)
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["test"] == {site: e.metrics for site, e in plain.together.items()}
    assert metrics["test_alone"] == {site: e.metrics for site, e in plain.alone.items()}
    assert metrics["test"]["red"]["pair_recall"] > 0.3
    assert all("bridge_loss" in record["metrics"]["red"] for record in metrics["rounds"])
    kept = load_file(tmp_path / "sites/red/result/local.safetensors")
    secret = kept["local/bridge.linear.weight"].numpy().tobytes()[:64]
    told = (b"BLUE", b"second.csv", secret)
    server = tmp_path / "workspace" / "server"
    for path in server.rglob(
        "*"
    ):  # the simulator gives every participant a copy of the folder with the site files
        if path.is_file() and server / "local" not in path.parents:
            assert not any(word in path.read_bytes() for word in told), path
    (sent,) = (tmp_path / "workspace").rglob("red/sent.jsonl")
    assert not any(word in sent.read_bytes() for word in told)
