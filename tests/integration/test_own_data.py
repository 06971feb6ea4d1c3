"""The page "Your own data", word for word, in an empty folder with data that are not the demo's."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import own_files
import pytest
from fedgram.config.job import JobConfig
from fedgram.config.site import find_site_config
from fedgram.config.strict import from_dict
from fedgram.sites.opening import open_site
from fedgram.sites.secret import with_secret
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession
from toy import ROOT

PAGE = (ROOT / "docs" / "own-data.md").read_text()

pytestmark = pytest.mark.slow

SITES = ("hosp-image", "hosp-text", "hosp-genomics", "hosp-tabular")


def environment() -> dict[str, str]:
    """What a user has: the commands of the virtual environment and the place of the clone."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return {
        **os.environ,
        "PATH": path,
        "FEDGRAM": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
    }


def follow(marker: str, folder: Path) -> str:
    """Run the block of the page after a marker; its output. Whatever it holds that fails, fails."""
    block = re.search(rf"<!-- worked example: own data, {marker} -->\n```\n(.*?)```", PAGE, re.DOTALL)
    assert block, marker
    command = ["bash", "-euo", "pipefail", "-c", block[1]]
    done = subprocess.run(command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's folder after the first two blocks."""
    folder = tmp_path_factory.mktemp("user")
    own_files.write(folder)
    follow("anchors", folder)
    understood = follow("sites", folder)
    for name in SITES:
        assert f"{name.removeprefix('hosp-')}, classification" in understood
    assert "16 columns of numbers" in understood
    return folder


def settings(folder: Path) -> dict:
    path = folder / "job/app_server/config/config_fed_server.json"
    return json.loads(path.read_text())["workflows"][0]["args"]["job"]


def test_the_files_are_a_federation_that_trains(folder: Path, tmp_path: Path):
    """On real encoders, without FLARE."""
    quick = {"training": {"rounds": 1, "local_steps": 2}, "baseline": False}
    job = from_dict(JobConfig, settings(folder) | quick, "the page's job")
    configs = {name: with_secret(find_site_config(folder / "run/local", name), tmp_path / name) for name in SITES}
    sessions = {name: SiteSession(open_site(name, configs[name], job), tmp_path / name) for name in SITES}
    outcome = run_federation(sessions, job, tmp_path / "server")
    assert set(outcome.together) == set(SITES)
    assert not outcome.server.records[0].rejected
    assert set(outcome.server.records[0].shares) == set(SITES)


def test_a_new_user_trains_a_federation_of_their_own(folder: Path):
    path = folder / "job/app_server/config/config_fed_server.json"
    server = json.loads(path.read_text())
    server["workflows"][0]["args"]["job"]["training"] = {"rounds": 2, "local_steps": 4}
    path.write_text(json.dumps(server))
    reported = follow("run", folder)
    for text in ("round 2/2", "hosp-tabular", "no site ever saw a pair", "report.png"):
        assert text in reported
    answers = reported[reported.index("prediction") :]
    assert answers.count("│ three") >= 4  # of four scans
    assert answers[answers.index("similarity") :].count("│ three") >= 4  # of five notes
    assert "does not count" not in reported
    results = folder / "run/server/simulate_job/fedgram"
    metrics = json.loads((results / "metrics.json").read_text())
    for site in SITES:
        assert metrics["test"][site]["accuracy"] > 0.6, site  # by chance 0.25
    retrieval = json.loads((results / "crossmodal.json").read_text())["retrieval"]
    assert len(retrieval) == 12
    for pair in retrieval:
        assert pair["relative"] > pair["chance"] + 0.15, pair
