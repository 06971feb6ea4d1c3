"""`make federation`: the demo job, shortened, on a provisioned federation of this machine, judged by its results.

Provisions project.loopback.yml into the given folder, starts a server and four sites as processes of their own
with mutual TLS, submits the job as an administrator would, waits, downloads, reports, and stops everything.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

from fedgram.errors import FedgramError, RoundFailed
from fedgram.flare import submit
from fedgram.results import crossreport
from loopback import PROVISIONING, Federation, read_project
from rich.console import Console

console = Console(width=None if sys.stdout.isatty() else 120)
_JOB = PROVISIONING.parent / "jobs" / "geodora"
_ROUNDS = 4


def run(folder: Path) -> None:
    """Run the federation in an empty folder.

    Raises:
        RoundFailed: it ended without the report of all rounds.
    """
    began = time.monotonic()
    federation = Federation.provision(folder, read_project(), {"OMP_NUM_THREADS": "1"})
    for site in federation.sites:
        own = PROVISIONING / "simulator/local/fedgram" / f"{site}.toml"
        shutil.copy(own, federation.kit(site) / "local/fedgram.toml")
    _say(f"kits in {federation.kits}", began)
    try:
        federation.start()
        _say(f"{federation.server} and {', '.join(federation.sites)} are up", began)
        job = shortened(_JOB, folder / "geodora", _ROUNDS)
        results = submit.run(job, federation.kit(federation.admin), folder / "results", console)
        rounds = json.loads((results / "metrics.json").read_text())["rounds"]
        if len(rounds) != _ROUNDS or not (results / "report.png").is_file():
            raise RoundFailed(f"{len(rounds)} rounds", where=results, expected=f"{_ROUNDS} rounds and report.png")
    except Exception:
        _show_errors(federation)
        raise
    finally:
        federation.stop()
    sites = [federation.kit(site) / "fedgram" / site / "result" for site in federation.sites]
    crossreport.write(sites, results, console)  # only here, where the sites share a machine
    _say("all processes have ended", began)


def shortened(job: Path, to: Path, rounds: int) -> Path:
    """A copy of a job with few rounds and no comparison with training alone."""
    shutil.copytree(job, to)
    path = to / "app_server/config/config_fed_server.json"
    server = json.loads(path.read_text())
    settings = server["workflows"][0]["args"]["job"]
    settings["baseline"] = False
    settings["training"]["rounds"] = rounds
    path.write_text(json.dumps(server, indent=2))
    return to


def _show_errors(federation: Federation) -> None:
    """The first lines of every participant's logs that say what went wrong."""
    for name in (federation.server, *federation.sites):
        for path in (federation.kits / f"{name}.out", federation.kit(name) / "fedgram" / name / "log.txt"):
            lines = path.read_text(errors="replace").splitlines() if path.exists() else []
            for line in [line for line in lines if " ERROR " in line or "Error: " in line][:5]:
                console.print(f"{path}: {line}", style="red", markup=False, soft_wrap=True)


def _say(text: str, began: float) -> None:
    console.print(f"[{time.monotonic() - began:4.0f} s] {text}", markup=False, soft_wrap=True)


def _interrupt(*_: object) -> None:
    """The first signal ends the run, which ends its processes; another one does not disturb that."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def main() -> None:
    """Run in the folder that the command names."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    try:
        run(folder)
    except (FedgramError, RuntimeError, TimeoutError) as error:
        console.print(f"FAILED: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("interrupted; all processes have ended")
        os._exit(130)  # an admin session that was just opening would keep the interpreter


if __name__ == "__main__":
    main()
