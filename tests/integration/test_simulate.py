"""`fedgram simulate` killed in mid-run and given again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import simulator
from fedgram.cli.main import app
from fedgram.errors import CheckpointError
from fedgram.results.trained import find_result
from fedgram.training.checkpoint import Checkpoint
from toy import ROOT, Toy, write_site_file
from typer.testing import CliRunner

pytestmark = pytest.mark.slow


def test_given_again_it_goes_on_where_it_was_killed(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Nobody has named a folder for its state."""
    run = toy.with_job(training={"rounds": 8, "local_steps": 1}, baseline=False)
    simulator.prepare(run, tmp_path)
    own = tmp_path / "workspace/local/fedgram"
    (own / "server.toml").unlink()
    for name, config in run.sites.items():
        write_site_file(own / f"{name}.toml", replace(config, state=None))
    paths = os.pathsep.join([str(ROOT / "custom"), str(toy.root / "modules")])
    monkeypatch.setenv("PYTHONPATH", paths)
    monkeypatch.chdir(tmp_path)
    command = [sys.executable, "-m", "fedgram", "simulate", "job", "workspace"]
    saved = Checkpoint(tmp_path / "workspace.state" / run.job.fingerprint()[:16], run.job)
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None and rounds_in(saved) < 2:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    assert 2 <= rounds_in(saved) < 8
    answer = CliRunner().invoke(app, ["simulate", "job", "workspace"])
    assert answer.exit_code == 0, answer.output
    assert "resumed after round" in answer.output
    assert not (tmp_path / "workspace.state").exists()
    for name in run.sites:
        assert find_result(tmp_path / "workspace", name).is_relative_to(tmp_path / "workspace" / name)


def rounds_in(saved: Checkpoint) -> int:
    try:
        state = saved.load()
    except CheckpointError:  # a file that is just being replaced
        return 0
    return state.state.round if state else 0
