"""Checks of the server's own machine: its file, its storage, its ports."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil

from fedgram.checks.doctor.kit import own_file, read_local
from fedgram.checks.doctor.room import SPARE, room
from fedgram.checks.doctor.visit import Finding, Visit
from fedgram.config.server import read_server_config

REJOIN, GATE = "fedgram.flare.rejoin.Rejoin", "fedgram.flare.shield.parent.ServerGate"
_PARENT = "nvflare.private.fed.app.server.server_train"


def server_file(visit: Visit) -> Iterator[Finding]:
    """Check ``local/fedgram/server.toml``, the folder of the saved rounds, and that the job's method may run."""
    path = visit.kit.folder / "local" / "fedgram" / "server.toml"
    config = read_server_config(path)
    states = Path(config.state) if config.state else visit.kit.folder / "checkpoints"
    yield from room("saved rounds", states, SPARE)
    if visit.job is not None:
        from fedgram.methods import method_of, require_allowed_at_server  # they load transformers

        require_allowed_at_server(path, config, visit.job.settings)
        method_of(visit.job.settings)


def storage(visit: Visit) -> Iterator[Finding]:
    """Check the folders in which FLARE keeps jobs and results."""
    path, resources = read_local(visit.kit, "resources.json")
    managers = [c for c in resources.get("components", ()) if c.get("id") == "job_manager"]
    folders = {
        "jobs": managers[0].get("args", {}).get("uri_root") if managers else None,
        "snapshots": resources.get("snapshot_persistor", {})
        .get("args", {})
        .get("storage", {})
        .get("args", {})
        .get("root_dir"),
    }
    for what, folder in folders.items():
        if folder is None:
            yield Finding("failure", f"no folder for FLARE's {what}", f"name one in {path}")
        elif str(folder).startswith("/tmp/nvflare/"):
            remedy = f"name a folder of this federation's own in {own_file(path)}"
            yield Finding("warning", f"{what} in {folder}: lost at a reboot, shared by all federations", remedy)
        else:
            yield from room(what, Path(folder), SPARE)


def rejoin(visit: Visit) -> Iterator[Finding]:
    """Check that a lost site does not end a job: FLARE 2.9.0 alone fails it when one site's process dies."""
    good = "a lost site does not end a job, and takes part again when it returns"
    yield _component(visit, "rejoin", REJOIN, good, "a job ends for all when one site's process dies")


def gate(visit: Visit) -> Iterator[Finding]:
    """Check that a site reaches nobody but the server's jobs: FLARE 2.9.0 alone forwards whatever it sends."""
    good = "a site reaches the server's jobs, and no other site"
    yield _component(visit, "gate", GATE, good, "a site can end other sites' jobs, and take all memory here")


def _component(visit: Visit, name: str, wanted: str, good: str, bad: str) -> Finding:
    """The finding on a component of the server's parent."""
    path, resources = read_local(visit.kit, "resources.json")
    if any(component.get("path") == wanted for component in resources.get("components", ())):
        return Finding("ok", good)
    component = f'{{"id": "{name}", "path": "{wanted}", "args": {{}}}}'
    remedy = f"add {component} to the components in {own_file(path)}, then restart the server"
    return Finding("warning", bad, remedy)


def ports(visit: Visit) -> Iterator[Finding]:
    """Check that the server's ports are its own: free, or taken by the server of this kit."""
    running = _running(visit.kit.folder)
    for port in sorted({visit.kit.port, int(visit.kit.settings.get("admin_port", visit.kit.port))}):
        with socket.socket() as probe:
            probe.settimeout(1.0)
            taken = probe.connect_ex(("127.0.0.1", port)) == 0
        if taken and running is None:
            remedy = f"end that program, see `ss -ltnp sport = :{port}`"
            yield Finding("failure", f"port {port} is taken, and not by this kit's server", remedy)
        elif running is not None and not taken:
            yield Finding(
                "warning",
                f"the server runs (process {running}) but does not answer on port {port}",
                "see its log.txt",
            )
        else:
            state = f"served by this kit's server, process {running}" if taken else "free"
            yield Finding("ok", f"port {port} is {state}")


def _running(folder: Path) -> int | None:
    """The process id of this kit's server; with `--once` its start script notes none."""
    own = {_PARENT, str(folder.resolve())}
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # it has just ended, or is hidden from this user
            if own <= set(process.cmdline()):
                return process.pid
    return None
