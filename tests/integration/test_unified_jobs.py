"""The jobs over rendered scenes, as shipped but shortened, with the embedded model, in the simulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from toy import ROOT


def simulate(name: str, folder: Path) -> tuple[str, Path]:
    """What `fedgram simulate` prints, and where its results are."""
    shutil.copytree(ROOT / "jobs" / name, folder / name)
    path = folder / name / "app_server/config/config_fed_server.json"
    server = json.loads(path.read_text())
    server["workflows"][0]["args"]["job"]["training"] |= {"rounds": 2, "local_steps": 2}
    path.write_text(json.dumps(server))
    shutil.copytree(ROOT / "provisioning/simulator-fedumm/local", folder / "workspace/local")
    command = [sys.executable, "-m", "fedgram", "simulate", str(folder / name), str(folder / "workspace")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=560, env=environment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout, folder / "workspace/server/simulate_job/fedgram"


@pytest.mark.slow
def test_fedumm_ends_with_a_figure_of_before_and_after(tmp_path: Path):
    shown, results = simulate("fedumm", tmp_path)
    assert "round 2/2" in shown
    assert "GenEval, color attr" in shown
    scores = json.loads((results / "unified.json").read_text())
    assert set(scores["after"]) == {"umm-1", "umm-2", "umm-3", "umm-4"}
    assert (results / "unified.png").stat().st_size > 20_000


@pytest.mark.slow
def test_unified_sites_share_their_tower_with_sites_of_one_modality(tmp_path: Path):
    shown, results = simulate("fedumm-mixed", tmp_path)
    rounds = json.loads((results / "metrics.json").read_text())["rounds"]
    sites = {"umm-1", "umm-2", "scenes-image", "scenes-text"}
    assert all(set(record["shares"]) == sites and not record["rejected"] for record in rounds)
    assert len(set(rounds[0]["payload_bytes"].values())) == 1
    assert "no site ever saw a pair" in shown
    assert (results / "crossmodal.png").is_file()
    assert (results / "unified.png").is_file()
