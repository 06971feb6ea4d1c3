"""The toy federation as real processes: provisioned kits, mutual TLS, one process tree a participant.

    from federation.federation import running

    def test_something(toy, tmp_path):
        run = toy.with_job(training={"rounds": 20, "local_steps": 1}, baseline=False)
        with running(run, tmp_path) as federation:                  # provisions, starts all, always stops all
            job = federation.submit(tmp_path / "job")
            federation.wait_for_output(federation.server, "round 3/20")
            federation.kill("red", "trainer")                       # or "job", "parent", or all its processes
            assert federation.wait(job) == "FINISHED:COMPLETED"     # not yet success: look at the results
            results = federation.download(job, tmp_path / "download") / "fedgram"

``executors`` names the sites, each with the class that the job gives it and the toy site whose data it uses:
``{**HONEST, "mallory": ("faulty.FaultyExecutor", "red")}``. A class that is not fedgram's is allow-listed at all
sites (``allow=False`` leaves the policy as provisioned) and found in tests/integration or tests/federation.
``relays`` says by site which relay it connects to.

See :class:`loopback.Federation` for the rest: ``kit(name)``, ``start(*names)``, ``stop(*names)``,
``pids(name, role)``, ``output(name)`` (parent and jobs), ``meta(job)``, and for the rest of FLARE's admin API
``ask(lambda session: session.abort_job(job))``. Start-up takes about 5 s, a job of three rounds 20 s.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import simulator
from loopback import Federation, free_port, read_project
from toy import ROOT, SITES, Toy, write_site_file

HONEST = {site: (simulator.HONEST, site) for site in SITES}
_SECURE = {"scheme": "grpc", "connection_security": "mtls"}  # FLARE's own default for a relay is neither
MARK = "FEDGRAM_TEST"  # in the environment of what a test starts outside such a federation: its folder
_FOLDERS = (ROOT / "tests/integration", ROOT / "tests/federation", ROOT / "custom")


def provision(
    toy: Toy,
    folder: Path,
    executors: Mapping[str, tuple[str, str]] = HONEST,
    allow: bool = True,
    relays: Mapping[str, str] = {},
    heart_beat_timeout: int = 15,
) -> Federation:
    """Kits and site files below ``folder``, and the toy's job in ``folder/job``; nothing runs yet."""
    project = read_project()
    project["participants"] = [p for p in project["participants"] if p["type"] != "client"]
    for relay in sorted(set(relays.values())):
        listening = {"default_host": "localhost", "port": free_port(), **_SECURE}
        project["participants"] += [{"name": relay, "type": "relay", "org": relay, "listening_host": listening}]
    for name in executors:
        behind = {"connect_to": {"name": relays[name]}} if name in relays else {}
        project["participants"] += [{"name": name, "type": "client", "org": name, **behind}]
    (policy,) = (b for b in project["builders"] if b["path"].endswith("SitePolicyBuilder"))
    foreign = {path for path, _ in executors.values() if not path.startswith("fedgram.")}
    policy["args"] = {"heart_beat_timeout": heart_beat_timeout, "extra_classes": sorted(foreign) if allow else []}
    federation = Federation.provision(
        folder / "federation",
        project,
        {
            "PYTHONPATH": os.pathsep.join(map(str, (toy.root / "modules", *_FOLDERS))),
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
        },
    )
    for name, (path, site) in executors.items():
        if path in foreign:  # a site that means harm has no gate of its own
            (federation.kit(name) / "local/privacy.json").unlink()
        write_site_file(federation.kit(name) / "local/fedgram.toml", toy.sites[site])
    simulator.prepare(toy, folder, executors)
    return federation


@contextmanager
def running(
    toy: Toy,
    folder: Path,
    executors: Mapping[str, tuple[str, str]] = HONEST,
    allow: bool = True,
    relays: Mapping[str, str] = {},
) -> Iterator[Federation]:
    """A provisioned federation with all its processes up; they end with the block, whatever happens."""
    federation = provision(toy, folder, executors, allow, relays)
    try:
        federation.start()
        yield federation
    finally:
        federation.stop()


def left(folder: Path) -> list[int]:
    """Processes that were started with :data:`MARK` of a folder, and that still run."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == str(folder):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found
