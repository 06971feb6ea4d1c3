"""The runbook's commands, run in its order: provision, hand out, start, submit, watch, add, renew, stop."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import yaml
from demo import shortened
from loopback import PROVISIONING, read_project, wait_until
from toy import ROOT

from federation.federation import MARK, left

pytestmark = pytest.mark.federation

SITES = ("hosp-image", "hosp-text", "hosp-genomics", "hosp-tabular")
_BLOCK = re.compile(r"<!-- run: (hub|site) -->\n```\n(.*?)```", re.DOTALL)


def script() -> str:
    """The runbook as one bash script: a block for the hub as it is, one for a site once for each site."""
    text = (ROOT / "docs" / "federation.md").read_text().replace("fedgram.hub.example.org", "localhost")
    lines = ["set -euo pipefail"]
    for place, block in _BLOCK.findall(text):
        if place == "site":
            own = PROVISIONING / "simulator/local/fedgram"
            block = f'for SITE in {" ".join(SITES)}; do\nEDITOR="cp {own}/$SITE.toml"\n{block}done\n'
        lines.append(f"set -x\n{block}set +x 2> /dev/null")
    return "\n".join(lines)


def test_every_command_of_the_runbook(tmp_path: Path):
    project = read_project()
    (policy,) = (b for b in project["builders"] if b["path"].endswith("SitePolicyBuilder"))
    policy["args"]["site_file"] = str(PROVISIONING / "site.example.toml")
    (tmp_path / "provisioning").mkdir()
    (tmp_path / "provisioning/project.yml").write_text(yaml.safe_dump(project))
    shortened(ROOT / "jobs/geodora", tmp_path / "jobs/geodora", rounds=2)
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),  # FLARE's console keeps a history there
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        MARK: str(tmp_path),
    }
    (tmp_path / "runbook.sh").write_text(script())
    try:
        with open(tmp_path / "runbook.log", "w") as log:
            done = subprocess.run(
                ["bash", "runbook.sh"],
                cwd=tmp_path,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=900,
            )
        said = (tmp_path / "runbook.log").read_text()
        assert done.returncode == 0, said[-4000:]
        wait_until(lambda: not left(tmp_path), 60, "the end of all processes after `nvflare system shutdown all`")
    finally:
        for pid in left(tmp_path):
            psutil.Process(pid).kill()
    assert said.count("failure: 0") == len(SITES)
    for text in ("Registered clients: 5", "round 2/2  done", "state: disabled", "status: restarted"):
        assert text in said, text
    results = list(tmp_path.glob("results/*/workspace/fedgram/report.png"))
    assert len(results) == 2  # of `nvflare job submit`, and of `fedgram submit` after the renewal
    serials = [certificate(path) for path in sorted(tmp_path.glob("secrets/fedgram/prod_*/hosp-image/startup"))]
    assert len(set(serials)) == 2
    assert certificate(tmp_path / "hosp-image/startup") == serials[-1]


def certificate(startup: Path) -> bytes:
    """Of a site's kit."""
    return (startup / "client.crt").read_bytes()
