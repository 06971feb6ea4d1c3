"""The job folders of the baselines are what `jobs/build.py` writes, and every method has one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from fedgram.config.job import JobConfig
from fedgram.config.site import read_site_config
from fedgram.config.strict import from_dict
from fedgram.methods import METHODS, method_of
from toy import ROOT

SERVER = "app_server/config/config_fed_server.json"


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*.json"))}


def test_the_folders_are_as_built(tmp_path: Path):
    subprocess.run([sys.executable, str(ROOT / "jobs/build.py"), str(tmp_path)], check=True, timeout=120)
    shipped = files(ROOT / "jobs")
    geodora = {name: text for name, text in shipped.items() if name.startswith("geodora/")}
    assert files(tmp_path) | geodora == shipped


def test_every_method_has_a_job_that_the_demo_sites_run():
    sites = [read_site_config(p) for p in (ROOT / "provisioning/simulator/local/fedgram").glob("hosp-*.toml")]
    found = set()
    for path in (ROOT / "jobs").glob(f"*/{SERVER}"):
        plain = json.loads(path.read_text())["workflows"][0]["args"]["job"]
        job = from_dict(JobConfig, plain, str(path))
        method_of(job)
        found.add(job.method.name)
    assert found == set(METHODS)
    assert all(set(site.methods) == found for site in sites)
