"""An installed wheel alone, in an environment of its own and without a checkout, does what `make demo` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from toy import ROOT

pytestmark = pytest.mark.slow


def run(command: list[str | Path], folder: Path, **changes: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | changes
    done = subprocess.run([*map(str, command)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a new environment that has the wheel, and all else from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "wheel", "--quiet", "--no-deps", "--wheel-dir", folder, ROOT], folder)
    run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], folder)
    python = folder / "venv/bin/python"
    (wheel,) = folder.glob("fedgram-*.whl")
    run([*pip, "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel], folder)
    own = Path(run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], folder).strip())
    (own / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # searched last: fedgram is the wheel's
    return folder / "venv/bin"


def test_the_demo_runs_without_a_checkout(installed: Path, tmp_path: Path):
    place = run([installed / "python", "-c", "import fedgram; print(fedgram.__file__)"], tmp_path).strip()
    assert Path(place).is_relative_to(installed.parent)
    shown = run(
        [installed / "fedgram", "demo", "--rounds", "1"], tmp_path, HF_HUB_OFFLINE="1", CUDA_VISIBLE_DEVICES=""
    )
    assert "round 1/1" in shown
    assert "does not count" not in shown
    results = tmp_path / "fedgram-demo/workspace/server/simulate_job/fedgram"
    metrics = json.loads((results / "metrics.json").read_text())
    assert len(metrics["test"]) == 6
    assert (results / "crossmodal.png").is_file()
    job = tmp_path / "fedgram-demo/job"
    shipped = ROOT / "jobs/few-labels"
    for path in filter(Path.is_file, shipped.rglob("*")):
        assert (job / path.relative_to(shipped)).read_bytes() == path.read_bytes()
