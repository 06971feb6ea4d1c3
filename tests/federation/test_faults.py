"""What breaks at a site or at the server while a job runs, on real processes; each says how long it took to mend.

``pytest -m federation -rP tests/federation/test_faults.py`` shows the seconds.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from loopback import Federation
from toy import Toy

from federation.federation import provision, running
from federation.gated import CLOSED
from federation.test_failures import (
    GATED,
    ROUNDS,
    assert_same_as_undisturbed,
    fetched,
    records,
    results_of,
    submitting,
    wait_for_round,
)

pytestmark = pytest.mark.federation


@pytest.fixture
def run(toy: Toy) -> Toy:
    return toy.with_job(training={"rounds": ROUNDS, "local_steps": 2}, baseline=False)


@pytest.fixture
def own(run: Toy, tmp_path: Path) -> Toy:
    """The same with files of red's own, for a test to spoil."""
    for name in ("red.csv", "anchors"):
        source = run.root / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    red = replace(run.sites["red"], data=str(tmp_path / "red.csv"), anchors=str(tmp_path / "anchors"))
    return replace(run, sites={**run.sites, "red": red})


def said(what: str, since: float) -> None:
    print(f"{what}: {time.monotonic() - since:.0f} s")


def counts_again(federation: Federation, offset: int, since: float, what: str) -> None:
    """Wait until red counts in a round once more."""
    federation.wait_for_output(federation.server, "/8  red ", seconds=180, offset=offset)
    said(what, since)


def test_a_site_s_parent_is_stopped_for_35_seconds_and_no_round_is_lost(run: Toy, tmp_path: Path):
    federation = provision(run, tmp_path, GATED)
    path = federation.kit(federation.server) / "local/resources.json"
    settings = json.loads(path.read_text())
    settings["servers"][0]["heart_beat_timeout"] = 60  # as provisioned where nobody is in a hurry
    path.write_text(json.dumps(settings))
    gate = federation.kit("green") / CLOSED
    try:
        federation.start()
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 2)
        gate.touch()
        (parent,) = federation.pids("red", "parent")
        os.kill(parent, signal.SIGSTOP)
        time.sleep(35)  # the fault itself
        os.kill(parent, signal.SIGCONT)
        began = time.monotonic()
        gate.unlink()
        results = results_of(federation, job, tmp_path)
        said("the rest of the job", began)
    finally:
        federation.stop()
    assert [set(record["shares"]) for record in records(results)] == [set(run.sites)] * ROUNDS
    assert_same_as_undisturbed(federation, results, run, tmp_path)


def test_a_trainer_is_stopped_and_ended_and_started_again(run: Toy, tmp_path: Path):
    with running(run, tmp_path) as federation:
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 2)
        (trainer,) = federation.pids("red", "trainer")
        os.kill(trainer, signal.SIGSTOP)
        began = time.monotonic()
        federation.wait_for_output(federation.server, "started again", seconds=400)
        said("a stopped trainer counts again after", began)
        results = results_of(federation, job, tmp_path)
        assert [set(record["shares"]) for record in records(results)] == [set(run.sites)] * ROUNDS
        assert [record["restarts"] for record in records(results) if record["restarts"]] == [{"red": 1}]
        assert_same_as_undisturbed(federation, results, run, tmp_path)


def test_the_server_s_job_is_killed_while_it_receives(run: Toy, tmp_path: Path):
    """Some replies of the round are there, others are not."""
    with running(run, tmp_path, GATED) as federation, submitting(federation, tmp_path) as command:
        gate = federation.kit("green") / CLOSED
        wait_for_round(federation, 2)
        gate.touch()
        offset = len(federation.output(federation.server))
        federation.wait_for_output(federation.server, "/8  blue ", offset=offset)
        federation.kill(federation.server, "job")
        began = time.monotonic()
        gate.unlink()
        federation.wait_for_output(federation.server, "resumed after round", seconds=240)
        said("the server's job goes on after", began)
        output, results = fetched(command, tmp_path)
        assert "the server lost the job" in output
        assert_same_as_undisturbed(federation, results, run, tmp_path)


def test_everything_is_killed_at_once(run: Toy, tmp_path: Path):
    with running(run, tmp_path) as federation:
        with submitting(federation, tmp_path):
            wait_for_round(federation, 3)
            for name in (federation.server, *federation.sites):
                federation.kill(name)
        began = time.monotonic()
        federation.start()
        with submitting(federation, tmp_path) as again:
            federation.wait_for_output(federation.server, "resumed after round", seconds=240)
            said("everything goes on after", began)
            _, results = fetched(again, tmp_path)
        assert_same_as_undisturbed(federation, results, run, tmp_path)


def test_a_full_disk_at_a_site_costs_its_rounds_and_nothing_else(run: Toy, tmp_path: Path):
    """The process that trains can add nothing to any file, until it can again."""
    with running(run, tmp_path, GATED) as federation:
        gate = federation.kit("green") / CLOSED
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 1)
        (trainer,) = federation.pids("red", "trainer")
        before = psutil.Process(trainer).rlimit(resource.RLIMIT_FSIZE)
        psutil.Process(trainer).rlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        federation.wait_for_output(federation.server, "red: answered with CheckpointError")
        gate.touch()
        psutil.Process(trainer).rlimit(resource.RLIMIT_FSIZE, before)
        offset, began = len(federation.output(federation.server)), time.monotonic()
        gate.unlink()
        counts_again(federation, offset, began, "once there is room a site counts again after")
        found = records(results_of(federation, job, tmp_path))
        assert "CheckpointError" in json.dumps([record["rejected"] for record in found])
        assert set(found[0]["shares"]) == set(found[-1]["shares"]) == set(run.sites)
        assert all({"green", "blue"} <= set(record["shares"]) for record in found)


@pytest.mark.parametrize("what", ["red.csv", "anchors"])
def test_files_are_lost_or_exchanged_in_mid_run(own: Toy, tmp_path: Path, what: str):
    """A site that trains reads nothing again; one that must start again says what is wrong, and can be helped."""
    with running(own, tmp_path, GATED) as federation:
        gate = federation.kit("green") / CLOSED
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 1)
        shutil.move(tmp_path / what, tmp_path / "aside")
        if what == "anchors":
            shutil.copytree(own.root / "heldout", tmp_path / what)
        federation.kill("red", "trainer")
        kind = "AnchorError" if what == "anchors" else "FileNotFoundError"  # as the toy's modality has it
        federation.wait_for_output(federation.server, f"red: answered with {kind}", seconds=180)
        gate.touch()
        if what == "anchors":
            shutil.rmtree(tmp_path / what)
        shutil.move(tmp_path / "aside", tmp_path / what)
        offset, began = len(federation.output(federation.server)), time.monotonic()
        gate.unlink()
        counts_again(federation, offset, began, f"with {what} back a site counts again after")
        found = records(results_of(federation, job, tmp_path))
        assert set(found[0]["shares"]) == set(found[-1]["shares"]) == set(own.sites)
        assert what not in json.dumps([record["rejected"] for record in found])


def test_a_job_that_is_submitted_twice_runs_one_after_the_other(run: Toy, tmp_path: Path):
    """By two people, say: both at once would save their rounds in one place."""
    with running(run, tmp_path, GATED) as federation:
        gate = federation.kit("green") / CLOSED
        gate.touch()
        jobs = [federation.submit(tmp_path / "job") for _ in range(2)]
        federation.wait_for_output(federation.server, "another job with the same settings runs", seconds=120)
        gate.unlink()
        for job in jobs:
            results = results_of(federation, job, tmp_path / job)
            assert_same_as_undisturbed(federation, results, run, tmp_path / job)


def test_a_truncated_state_ends_the_command_which_says_why_and_can_begin_again(run: Toy, tmp_path: Path):
    with running(run, tmp_path) as federation:
        with submitting(federation, tmp_path):
            wait_for_round(federation, 3)
            federation.kill(federation.server)
        for state in federation.kit(federation.server).glob("checkpoints/*/server*.safetensors"):
            state.write_bytes(state.read_bytes()[:200])
        federation.start(federation.server)
        with submitting(federation, tmp_path) as again:
            output, _ = again.communicate(timeout=240)
        assert again.returncode == 1
        for part in ("ended by CheckpointError", "server.safetensors: damaged", "remedy", "--fresh"):
            assert part in output, output
        assert output.count("\njob ") <= 1
        with submitting(federation, tmp_path, "--fresh") as fresh:
            _, results = fetched(fresh, tmp_path)
        assert len(records(results)) == ROUNDS
        assert_same_as_undisturbed(federation, results, run, tmp_path)
