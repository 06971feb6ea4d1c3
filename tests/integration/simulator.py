"""Runs a toy federation with the real `nvflare simulator`, as its own processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fedgram.config.strict import to_dict
from fedgram.flare.provision import SERVER_CLASSES, SITE_CLASSES
from toy import ROOT, Toy, write_site_file

HONEST = "fedgram.flare.executors.SiteExecutor"


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1))


def prepare(toy: Toy, folder: Path, executors: Mapping[str, tuple[str, str]] | None = None) -> None:
    """Write ``folder/job`` and ``folder/workspace``.

    Args:
        executors: class path and toy site whose files it uses, by client name; the toy's sites when absent.
    """
    executors = executors or {name: (HONEST, name) for name in toy.sites}
    template = ROOT / "jobs" / "geodora"
    server = json.loads((template / "app_server/config/config_fed_server.json").read_text())
    server["workflows"][0]["args"]["job"] = to_dict(toy.job)
    write_json(folder / "job/app_server/config/config_fed_server.json", server)
    deploy_map = {"app_server": ["server"], **{f"app_{name}": [name] for name in executors}}
    write_json(folder / "job/meta.json", {"name": "toy", "min_clients": 1, "deploy_map": deploy_map})
    local = folder / "workspace" / "local"
    allowed = sorted({*SITE_CLASSES, *SERVER_CLASSES, *(path for path, _ in executors.values())})
    write_json(local / "resources.json", {"format_version": 2, "class_allow_list": allowed})
    (local / "fedgram").mkdir()
    (local / "fedgram" / "server.toml").write_text(f'state = "{folder}/server-state"\n')
    for name, (path, site) in executors.items():
        client = json.loads((template / "app_image/config/config_fed_client.json").read_text())
        client["executors"][0]["executor"] = {"path": path, "args": {"modality": site}}
        write_json(folder / f"job/app_{name}/config/config_fed_client.json", client)
        config = replace(toy.sites[site], state=str(folder / "sites"))
        write_site_file(local / "fedgram" / f"{name}.toml", config)


def start(toy: Toy, folder: Path, clients: int) -> subprocess.Popen[str]:
    """Start the simulator on what :func:`prepare` wrote; its output goes to ``simulator.log``."""
    command = ["-m", "nvflare.cli", "simulator", "-w", "workspace", "-t", str(clients), "job"]
    paths = [str(ROOT / "custom"), str(toy.root / "modules"), str(Path(__file__).parent)]
    with open(folder / "simulator.log", "a") as log:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "CUDA_VISIBLE_DEVICES": ""},
        )


def run(toy: Toy, folder: Path, clients: int) -> Path:
    """Run to the end, or for five minutes; returns the server's result folder."""
    with start(toy, folder, clients) as process:
        try:
            process.wait(timeout=300)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    return folder / "workspace" / "server" / "simulate_job" / "fedgram"
