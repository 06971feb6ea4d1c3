"""The supervisor of the training process: real processes, really killed.

Where only the supervisor is at stake, a worker of a few lines stands in for the one that loads torch.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.config.strict import to_dict
from fedgram.flare.process import supervisor
from fedgram.flare.process.supervisor import Stopped, Supervisor, WorkerFailed
from fedgram.records import SiteUpdate
from fedgram.training.server import agree
from fedgram.training.session import SiteSession
from toy import Toy, write_site_file

NAMES = ("red", "green")

STAND_IN = """
import os, pickle, signal, sys, time
from multiprocessing.connection import Connection
connection = Connection(int(sys.argv[1]))
print("up", flush=True)
while True:
    job, task, arguments = pickle.loads(connection.recv_bytes())
    print(task, flush=True)
    if task == "die" or (task == "die once" and not os.path.exists(arguments[0])):
        open(arguments[0], "w").close()
        os.kill(os.getpid(), 9)
    if task == "hang":
        time.sleep(600)
    connection.send_bytes(b"")
    if task == "stop" or (task == "stop once" and not os.path.exists(arguments[0])):
        open(arguments[0], "w").close()
        os.kill(os.getpid(), signal.SIGSTOP)
    answer = (None, "DataError") if task == "fail" else ((job, sys.argv[2:], arguments, os.getpid()), None)
    connection.send_bytes(pickle.dumps(answer))
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervisor]:
    """A supervisor whose worker repeats what it is asked, and dies, hangs or fails when told to."""
    module = tmp_path / "modules/fedgram/flare/process/worker.py"
    module.parent.mkdir(parents=True)
    module.write_text(STAND_IN)
    for package in list(module.parents)[:3]:
        (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    made = Supervisor("red", tmp_path / "local", tmp_path / "state", "image", {"rounds": 3})
    yield made
    made.close()


@pytest.fixture
def silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Patience for a worker that a test stops; on a busy machine one may take a second to do nothing."""
    monkeypatch.setattr(supervisor, "_SILENT_SECONDS", 2.0)


@pytest.fixture
def supervise(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Supervisor]]:
    """Makes the supervisor of the toy's red site; its worker is ended after the test."""
    monkeypatch.setenv("PYTHONPATH", str(toy.root / "modules"), prepend=os.pathsep)
    started = []

    def make(run: Toy = toy, **changes: object) -> Supervisor:
        write_site_file(tmp_path / "local/fedgram.toml", replace(run.sites["red"], **changes))
        job = to_dict(run.job)
        started.append(Supervisor("red", tmp_path / "local", tmp_path / "state", "red", job))
        return started[-1]

    yield make
    for made in started:
        made.close()


def process_of(site: Supervisor) -> subprocess.Popen[bytes]:
    assert site._process is not None
    return site._process


def same(ours: SiteUpdate, theirs: SiteUpdate) -> bool:
    return torch.equal(ours.gram, theirs.gram) and all(
        torch.equal(delta, theirs.delta_B[name]) for name, delta in ours.delta_B.items()
    )


def test_one_worker_answers_every_task(stand_in: Supervisor, tmp_path: Path):
    job, told, arguments, first = stand_in.ask("train", "run", "state")
    assert job == {"rounds": 3}
    assert told == ["red", str(tmp_path / "local"), str(tmp_path / "state"), "image"]
    assert arguments == ("run", "state")
    assert stand_in.ask("evaluate")[3] == first == process_of(stand_in).pid
    assert (tmp_path / "state/red/log.txt").read_text() == "up\ntrain\nevaluate\n"


def test_a_worker_killed_between_two_tasks_is_started_again(stand_in: Supervisor):
    first = stand_in.ask("train")[3]
    process_of(stand_in).kill()
    process_of(stand_in).wait()
    assert stand_in.ask("train", 2)[2] == (2,)
    assert process_of(stand_in).pid != first
    assert stand_in.restarts == 1


def test_a_worker_that_dies_of_a_task_is_asked_again(stand_in: Supervisor, tmp_path: Path):
    assert stand_in.ask("die once", tmp_path / "died")[2] == (tmp_path / "died",)
    assert (tmp_path / "state/red/log.txt").read_text() == "up\ndie once\n" * 2
    assert stand_in.restarts == 1


def test_a_worker_that_always_dies_is_given_up(stand_in: Supervisor, tmp_path: Path):
    with pytest.raises(WorkerFailed, match="WorkerDied"):
        stand_in.ask("die", tmp_path / "died")
    assert stand_in.restarts == 3
    assert stand_in.ask("train")  # what is asked next has three attempts of its own


def test_the_kind_of_an_error_comes_back(stand_in: Supervisor):
    with pytest.raises(WorkerFailed) as caught:
        stand_in.ask("fail")
    assert (caught.value.kind, stand_in.restarts) == ("DataError", 0)


def test_a_task_that_is_called_off_ends_the_worker(stand_in: Supervisor):
    first = stand_in.ask("train")[3]
    with pytest.raises(Stopped):
        stand_in.ask("hang", stopped=lambda: True)
    assert stand_in._process is None
    assert not Path(f"/proc/{first}").exists()
    assert stand_in.ask("train")[3] != first


def test_a_worker_that_is_stopped_is_ended_and_asked_again(stand_in: Supervisor, tmp_path: Path, silence: None):
    """SIGSTOP in the middle of a task; kill -9 ends what is stopped."""
    assert stand_in.ask("stop once", tmp_path / "stopped")[2] == (tmp_path / "stopped",)
    assert (tmp_path / "state/red/log.txt").read_text() == "up\nstop once\n" * 2
    assert stand_in.restarts == 1


def test_a_worker_that_is_stopped_between_two_tasks_does_not_hang_whoever_asks(
    stand_in: Supervisor, silence: None
):
    """The request is larger than what a socket takes on."""
    first = stand_in.ask("train")[3]
    os.kill(first, signal.SIGSTOP)
    assert stand_in.ask("train", bytes(2**24))[3] != first
    assert stand_in.restarts == 1
    assert not Path(f"/proc/{first}").exists()


def test_a_worker_that_never_comes_up_is_given_up(
    stand_in: Supervisor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "modules/fedgram/flare/process/worker.py").write_text("import time; time.sleep(600)")
    monkeypatch.setattr(supervisor, "_START_SECONDS", 0.0)
    with pytest.raises(WorkerFailed, match="WorkerDied"):
        stand_in.ask("train")
    assert stand_in.restarts == 3


def test_a_worker_that_could_not_be_started_is_started_for_the_next_task(
    stand_in: Supervisor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A full disk, or no memory for one more process: once there is room the site takes part again."""
    monkeypatch.setattr(supervisor, "_START_SECONDS", 60.0)
    log = tmp_path / "state/red/log.txt"
    log.mkdir(parents=True)
    with pytest.raises(OSError, match="directory"):
        stand_in.ask("introduce")
    log.rmdir()
    assert stand_in.ask("introduce")[0] == {"rounds": 3}
    assert stand_in.restarts == 0


def test_the_supervising_side_loads_no_model_code():
    script = (
        "import sys, fedgram.flare.executors; "
        "print(sorted({'transformers', 'peft', 'pandas', 'sklearn'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_answers_as_if_nothing_had_been(toy: Toy, tmp_path: Path, supervise):
    """kill -9 between two rounds and in the middle of one."""
    run = toy.with_job(training={"local_steps": 150})
    sessions = {name: SiteSession(run.open(name), tmp_path / "plain" / name) for name in NAMES}
    state = agree([session.introduce() for session in sessions.values()], run.job)[0]
    expected = [sessions["red"].train(state.run, replace(state.state, round=number)) for number in (0, 1)]

    worker = supervise(run)
    assert same(worker.ask("train", state.run, state.state), expected[0])
    first = process_of(worker)
    first.kill()
    first.wait()
    log = tmp_path / "state/red/log.txt"
    opened = log.read_text().count("samples")

    def kill_while_it_trains() -> None:
        while log.read_text().count("samples") == opened:
            time.sleep(0.01)
        os.kill(process_of(worker).pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_while_it_trains)
    killer.start()
    update = worker.ask("train", state.run, replace(state.state, round=1))
    killer.join()
    assert worker.restarts == 2
    assert same(update, expected[1])
    assert process_of(worker).pid != first.pid


@pytest.mark.slow
def test_a_worker_that_hangs_in_training_is_noticed_whatever_the_deadline(
    toy: Toy, tmp_path: Path, supervise, monkeypatch: pytest.MonkeyPatch
):
    """SIGSTOP to the process that trains, in the middle of a round that would take an hour."""
    run = toy.with_job(training={"local_steps": 150})
    sessions = {name: SiteSession(run.open(name), tmp_path / "plain" / name) for name in NAMES}
    state = agree([session.introduce() for session in sessions.values()], run.job)[0]
    expected = sessions["red"].train(state.run, state.state)
    monkeypatch.setattr(supervisor, "_SILENT_SECONDS", 10.0)
    worker = supervise(run)
    worker.ask("introduce")
    stopper = threading.Timer(0.2, os.kill, (process_of(worker).pid, signal.SIGSTOP))
    stopper.start()
    began = time.monotonic()
    assert same(worker.ask("train", state.run, state.state), expected)
    stopper.join()
    assert worker.restarts == 1
    assert time.monotonic() - began < 90


@pytest.mark.slow
def test_what_goes_wrong_in_the_worker_stays_in_its_log_and_can_be_put_right(supervise, tmp_path: Path, toy: Toy):
    worker = supervise(data="/nowhere/patients.csv")
    with pytest.raises(WorkerFailed) as caught:
        worker.ask("introduce")
    assert str(caught.value) == "FileNotFoundError"
    assert "/nowhere/patients.csv" in (tmp_path / "state/red/log.txt").read_text()
    assert worker.restarts == 0
    write_site_file(tmp_path / "local/fedgram.toml", toy.sites["red"])
    assert worker.ask("introduce").site == "red"


@pytest.mark.slow
def test_the_worker_ends_when_its_supervisor_dies(toy: Toy, supervise, tmp_path: Path):
    """Nothing keeps a GPU after FLARE's process at the site was killed, not even in the middle of a round."""
    supervise()
    script = (
        "import sys, json; from pathlib import Path; from fedgram.flare.process.supervisor import Supervisor\n"
        "s = Supervisor('red', Path(sys.argv[1]), Path(sys.argv[2]), 'red', json.loads(sys.argv[3]))\n"
        "s.ask('introduce'); print(s._process.pid, flush=True)\n"
        "s.ask('alone')\n"
    )
    job = json.dumps(to_dict(toy.with_job(training={"rounds": 10_000}).job))
    arguments = [str(tmp_path / "local"), str(tmp_path / "state"), job]
    with subprocess.Popen([sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 30
    while Path(f"/proc/{worker}").exists() and "Z" not in Path(f"/proc/{worker}/stat").read_text().split()[2]:
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.05)
