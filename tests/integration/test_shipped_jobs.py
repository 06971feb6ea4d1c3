"""The jobs and the workspace that we ship, on the real data and encoders, shortened."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy import ROOT


@pytest.mark.slow
@pytest.mark.parametrize("name", ["geodora", "geolora"])
def test_a_shipped_job_ends_with_a_report(name: str, tmp_path: Path):
    shutil.copytree(ROOT / "jobs" / name, tmp_path / name)
    path = tmp_path / name / "app_server/config/config_fed_server.json"
    server = json.loads(path.read_text())
    server["workflows"][0]["args"]["job"] |= {"baseline": False, "training": {"rounds": 2, "local_steps": 2}}
    path.write_text(json.dumps(server))
    shutil.copytree(ROOT / "provisioning/simulator/local", tmp_path / "workspace/local")
    command = [sys.executable, "-m", "fedgram", "simulate", str(tmp_path / name), str(tmp_path / "workspace")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for text in ("round 2/2", "hosp-genomics", "no site ever saw a pair", "Mustelidae", "results"):
        assert text in done.stdout
    results = tmp_path / "workspace/server/simulate_job/fedgram"
    adapter = json.loads((results / "adapter/adapter_config.json").read_text())
    assert adapter["peft_type"] == "LORA"
    own = json.loads(
        (tmp_path / "workspace/hosp-image/fedgram/hosp-image/result/adapter/adapter_config.json").read_text()
    )
    assert own["use_dora"] == (name == "geodora")
    assert (results / "report.png").stat().st_size > 10_000
    assert (results / "crossmodal.png").stat().st_size > 10_000
