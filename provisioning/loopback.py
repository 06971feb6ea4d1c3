"""A provisioned federation on one machine: real kits, mutual TLS, one process tree a participant.

`make federation` (demo.py) and the tests of tests/federation build on :class:`Federation`.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import psutil
import yaml
from nvflare.apis.job_def import JobMetaKey
from nvflare.fuel.flare_api.api_spec import NoConnection, SessionClosed
from nvflare.fuel.flare_api.flare_api import Session, new_secure_session
from nvflare.lighter.constants import CtxKey
from nvflare.lighter.prov_utils import prepare_builders
from nvflare.lighter.provision import prepare_project
from nvflare.lighter.provisioner import Provisioner

PROVISIONING = Path(__file__).resolve().parent
_KIT = "FEDGRAM_LOOPBACK_KIT"  # marks every process of a participant, orphans too
_PARENTS, _JOBS = ("server_train", "client_train", "relay.relay"), ("runner_process", "worker_process")
T = TypeVar("T")
Role = Literal["parent", "job", "trainer"]


def read_project(name: str = "project.loopback.yml") -> dict[str, Any]:
    """The project file as plain data, with a free port for the server."""
    project = yaml.safe_load((PROVISIONING / name).read_text())
    (server,) = (p for p in project["participants"] if p["type"] == "server")
    server["fed_learn_port"] = free_port()
    return project


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition: Callable[[], Any], seconds: float, what: str, poll: float = 0.05) -> Any:
    """The first true value of a condition.

    Raises:
        TimeoutError: it stayed false.
    """
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds:g} s: {what}")
        time.sleep(poll)
    return value


@dataclass
class Federation:
    """The kits of a project, and the processes that run from them.

    Attributes:
        kits: folder with a kit for each participant.
        server, relays, sites, admin: names of the participants, which are the names of their kits.
        environment: of all processes, besides this process's own.
    """

    kits: Path
    server: str
    relays: tuple[str, ...]
    sites: tuple[str, ...]
    admin: str
    environment: Mapping[str, str] = field(default_factory=dict)
    _started: list[tuple[str, subprocess.Popen[bytes]]] = field(default_factory=list)
    _session: Session | None = None

    @classmethod
    def provision(
        cls, folder: Path, project: Mapping[str, Any], environment: Mapping[str, str] | None = None
    ) -> Federation:
        """Make the kits below ``folder``, with their own certificate authority."""
        folder.mkdir(parents=True, exist_ok=True)
        plain = deepcopy(dict(project))  # FLARE takes it apart
        context = Provisioner(str(folder), prepare_builders(plain)).provision(
            prepare_project(plain), logger=_Quiet()
        )
        if context.get(CtxKey.BUILD_ERROR):
            raise RuntimeError(f"provisioning failed: {context.get_errors()}")
        names = {
            kind: tuple(p["name"] for p in project["participants"] if p["type"] == kind)
            for kind in ("server", "relay", "client", "admin")
        }
        kits = Path(str(context.get_result_location())).resolve()
        return cls(
            kits=kits,
            server=names["server"][0],
            relays=names["relay"],
            sites=names["client"],
            admin=names["admin"][0],
            environment=environment or {},
        )

    def kit(self, name: str) -> Path:
        """The folder of a participant."""
        return self.kits / name

    # processes

    def start(self, *names: str, seconds: float = 120) -> None:
        """Start participants, all by default, and wait until the server listens and the sites are registered."""
        everybody = (self.server, *self.relays, *self.sites)
        offsets = {name: len(self.output(name)) for name in names or everybody}
        for name in offsets:
            environment = {
                **os.environ,
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
                **self.environment,
                _KIT: str(self.kit(name)),
            }
            with open(self.kits / f"{name}.out", "a") as output:
                command = [str(self.kit(name) / "startup/sub_start.sh"), "--once"]
                process = subprocess.Popen(
                    command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
                )
                self._started.append((name, process))
        for name, offset in offsets.items():
            text = "Started relay" if name in self.relays else "Successfully registered client"
            text = "Server started" if name == self.server else text
            self.wait_for_output(name, text, seconds, offset)

    def output(self, name: str) -> str:
        """All that the processes of a participant have printed: the parent's log and those of its jobs."""
        path = self.kits / f"{name}.out"
        return path.read_text(errors="replace") if path.exists() else ""

    def wait_for_output(self, name: str, text: str, seconds: float = 60, offset: int = 0) -> None:
        """Wait until a participant has printed a text."""

        def found() -> bool:
            if text in self.output(name)[offset:]:
                return True
            if not self.pids(name) and self._has_ended(name):
                raise RuntimeError(f"{name} has ended:\n{self.output(name)[offset:][-3000:]}")
            return False

        wait_until(found, seconds, f"{text!r} from {name}; {self.kits / name}.out says why")

    def _has_ended(self, name: str) -> bool:
        """Whether its parents have ended; one that is just starting has no environment to be found by yet."""
        return all(process.poll() is not None for started, process in self._started if started == name)

    def pids(self, name: str, role: Role | None = None) -> list[int]:
        """Process ids of a participant: its ``parent``, its ``job`` processes, or whatever these have started."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(_KIT) != str(self.kit(name)) or process.status() == psutil.STATUS_ZOMBIE:
                    continue
                command = " ".join(process.cmdline())
                if "resource_tracker" not in command and role in (None, _role(command)):
                    found.append(process.pid)
        return found

    def kill(self, name: str, role: Role | None = None, seconds: float = 60) -> None:
        """kill -9 the participant's processes of a role, all by default; waits until there is one to kill."""
        pids = wait_until(lambda: self.pids(name, role), seconds, f"a {role or 'process'} of {name}")
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for _, process in self._started:
            if process.pid in pids:
                process.wait()  # a zombie would still count as alive for its children
        wait_until(lambda: not set(pids) & set(self.pids(name)), seconds, f"the end of {name}")

    def stop(self, *names: str) -> None:
        """End participants, all by default; kill -9 what does not end by itself."""
        if not names or self.server in names:
            self._log_out()  # while there is a server to log out from; otherwise it takes 20 s
        everybody = (*self.sites, *self.relays, self.server)
        names = names or everybody
        for name in names:
            for pid in self.pids(name):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGTERM)
        for name in names:
            with suppress(TimeoutError):
                wait_until(lambda name=name: not self.pids(name), 5, f"the end of {name}")
            if self.pids(name):
                self.kill(name)
        if set(names) >= set(everybody):
            for _, process in self._started:
                process.wait()

    # jobs

    def ask(self, command: Callable[[Session], T], attempts: int = 5) -> T:
        """An admin command, in the open session or, when the server was away, in a new one."""
        try:
            self._session = self._session or new_secure_session(self.admin, str(self.kit(self.admin)))
            return command(self._session)
        except (NoConnection, SessionClosed):
            self._log_out()
            if attempts == 1:
                raise
            return self.ask(command, attempts - 1)

    def _log_out(self) -> None:
        """FLARE's threads keep the interpreter alive until a session is closed."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def submit(self, job: Path) -> str:
        """Submit a job folder; returns the job's id."""
        return self.ask(lambda session: session.submit_job(str(job.resolve())))

    def meta(self, job: str) -> dict[str, Any]:
        """What the server knows of a job: its status, and why a site refused it."""
        return self.ask(lambda session: session.get_job_meta(job))

    def ended(self, job: str) -> str | None:
        """FLARE's final status of a job, None while it runs; it is not yet success: look at the results."""
        status = str(self.meta(job)[JobMetaKey.STATUS.value])
        return status if status.startswith("FINISHED") else None

    def wait(self, job: str, seconds: float = 300) -> str:
        """Wait for the end of a job; returns its final status."""
        return wait_until(lambda: self.ended(job), seconds, f"the end of job {job}", poll=0.5)

    def download(self, job: str, to: Path) -> Path:
        """Fetch what the server holds of a finished job; returns its workspace, with ``fedgram/`` in it."""
        found = self.ask(lambda session: Path(session.download_job_result(job)))
        shutil.copytree(found, to, dirs_exist_ok=True)
        return to / "workspace"


def _role(command: str) -> Role:
    if any(name in command for name in _PARENTS):
        return "parent"
    return "job" if any(name in command for name in _JOBS) else "trainer"


class _Quiet:
    """FLARE prints what it provisions; errors are raised."""

    def info(self, message: str) -> None: ...

    debug = warning = error = info
