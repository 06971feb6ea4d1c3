"""kill -9 on real processes, and what becomes of the job: where it can be, the result of a quiet run."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from loopback import Federation
from safetensors.torch import load_file
from test_simulator import assert_same_model, plain
from toy import Toy

from federation.federation import HONEST, running
from federation.gated import CLOSED

pytestmark = pytest.mark.federation

ROUNDS = 8
GATED = {**HONEST, "green": ("gated.GatedExecutor", "green")}


@pytest.fixture
def run(toy: Toy) -> Toy:
    return toy.with_job(training={"rounds": ROUNDS, "local_steps": 2}, baseline=False)


def patience(folder: Path, seconds: int) -> None:
    """How long a round of the job in ``folder/job`` waits for a site after FLARE takes it for dead."""
    path = folder / "job/app_server/config/config_fed_server.json"
    config = json.loads(path.read_text())
    assert {"dead_client_grace_period", "dead_client_check_lead_time"} <= set(config)
    path.write_text(json.dumps(config | {"dead_client_grace_period": seconds}))


def wait_for_round(federation: Federation, number: int) -> None:
    federation.wait_for_output(federation.server, f"round {number}/{ROUNDS}  done", seconds=180)


def results_of(federation: Federation, job: str, folder: Path, seconds: float = 300) -> Path:
    assert federation.wait(job, seconds) == "FINISHED:COMPLETED", federation.output(federation.server)[-3000:]
    return federation.download(job, folder / "download") / "fedgram"


def records(results: Path) -> list[dict]:
    return json.loads((results / "metrics.json").read_text())["rounds"]


def assert_same_as_undisturbed(federation: Federation, results: Path, run: Toy, folder: Path) -> None:
    """The global model, and what every site keeps: adapter, head and its own magnitudes."""
    assert_same_model(results, plain(run, folder / "plain"))
    for site in run.sites:
        kept = load_file(federation.kit(site) / "fedgram" / site / "result" / "local.safetensors")
        expected = load_file(folder / "plain" / site / "result" / "local.safetensors")
        assert kept.keys() == expected.keys()
        assert all(torch.equal(kept[name], tensor) for name, tensor in expected.items()), site


@pytest.mark.parametrize("role", ["trainer", "job", "parent"])
def test_a_site_s_process_is_killed_and_the_site_takes_part_again(run: Toy, tmp_path: Path, role):
    """The process that trains is started again by the site's job process, that one by the server, the parent by
    the site's own start script."""
    with running(run, tmp_path) as federation:
        patience(tmp_path, 120)
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 2)
        federation.kill("red", role)
        if role == "parent":
            federation.start("red")
        results = results_of(federation, job, tmp_path)
        assert [set(record["shares"]) for record in records(results)] == [set(run.sites)] * ROUNDS
        restarts = [record["restarts"] for record in records(results) if record["restarts"]]
        assert restarts == ([{"red": 1}] if role == "trainer" else [])
        assert_same_as_undisturbed(federation, results, run, tmp_path)


def assert_red_is_away_for_some_rounds(run: Toy, folder: Path, lost: str, relays: Mapping[str, str] = {}) -> None:
    """Kill a participant and start it again: red, whom the server loses with it, misses rounds, then returns."""
    with running(run, folder, GATED, relays=relays) as federation:
        patience(folder, 1)
        gate = federation.kit("green") / CLOSED
        job = federation.submit(folder / "job")
        wait_for_round(federation, 1)
        federation.kill(lost)
        federation.wait_for_output(federation.server, "no reply from red")
        gate.touch()
        federation.start(lost)
        federation.wait_for_output(federation.server, "Client red is reconnected")
        gate.unlink()
        took_part = ["red" in record["shares"] for record in records(results_of(federation, job, folder))]
        assert took_part[0]
        assert not all(took_part)
        assert took_part[-1]


def test_rounds_go_on_without_a_site_that_is_gone_and_with_it_when_it_returns(run: Toy, tmp_path: Path):
    assert_red_is_away_for_some_rounds(run, tmp_path, "red")


def test_a_site_that_is_gone_for_good_does_not_hold_the_job_up(run: Toy, tmp_path: Path):
    with running(run, tmp_path) as federation:
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 1)
        federation.kill("red")
        last = records(results_of(federation, job, tmp_path))[-1]
        assert set(last["shares"]) == {"green", "blue"}
        assert last["missing"] == ["red"]


def test_a_site_whose_job_process_ends_at_every_start_does_not_hold_the_job_up(run: Toy, tmp_path: Path):
    """Its policy does not allow the executor, which FLARE finds out in the job process."""
    with running(run, tmp_path) as federation:
        path = federation.kit("red") / "local/resources.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"class_allow_list": []}))
        job = federation.submit(tmp_path / "job")
        found = records(results_of(federation, job, tmp_path))
        assert [set(record["shares"]) for record in found] == [{"green", "blue"}] * ROUNDS
        assert "red does not run job" in federation.output(federation.server)


def test_a_site_that_comes_late_takes_part(run: Toy, tmp_path: Path):
    with running(run, tmp_path, GATED) as federation:
        gate = federation.kit("green") / CLOSED
        gate.touch()
        federation.stop("red")
        job = federation.submit(tmp_path / "job")
        federation.wait_for_output(federation.server, "Sending task train to ['blue', 'green']")
        federation.start("red")
        federation.wait_for_output("red", "client runner started")
        gate.unlink()
        found = records(results_of(federation, job, tmp_path))
        assert set(found[0]["shares"]) == {"green", "blue"}
        assert set(found[-1]["shares"]) == set(run.sites)


@contextmanager
def submitting(federation: Federation, folder: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`fedgram submit` as its own process."""
    arguments = ["submit", "job", "--startup-kit", str(federation.kit(federation.admin)), "--results", "fetched"]
    arguments += options
    command = [sys.executable, "-c", "from fedgram.cli.main import app; app()", *arguments]
    with subprocess.Popen(
        command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def fetched(process: subprocess.Popen[str], folder: Path) -> tuple[str, Path]:
    """What the command has printed, and the results that it has fetched."""
    output, _ = process.communicate(timeout=900)
    assert process.returncode == 0, output
    (results,) = (path.parent for path in folder.glob("fetched/*/workspace/fedgram/report.txt"))
    return output, results


def test_the_server_s_job_process_is_killed_and_the_command_goes_on(run: Toy, tmp_path: Path):
    with running(run, tmp_path) as federation, submitting(federation, tmp_path) as command:
        wait_for_round(federation, 3)
        federation.kill(federation.server, "job")
        output, results = fetched(command, tmp_path)
        assert "the server lost the job" in output
        assert "resumed after round" in output
        assert_same_as_undisturbed(federation, results, run, tmp_path)
        with submitting(federation, tmp_path) as again:  # safe to repeat: the job is not run twice
            repeated, _ = fetched(again, tmp_path)
        assert "round 1/" not in repeated.split("results   ")[0].split("job ")[0]


def test_the_server_s_parent_is_killed_and_the_command_repeated(run: Toy, tmp_path: Path):
    with running(run, tmp_path) as federation:
        with submitting(federation, tmp_path):
            wait_for_round(federation, 3)
            federation.kill(federation.server, "parent")
        federation.start(federation.server)
        with submitting(federation, tmp_path) as again:
            output, results = fetched(again, tmp_path)
        assert "resumed after round" in output
        assert_same_as_undisturbed(federation, results, run, tmp_path)
        jobs = federation.ask(lambda session: session.list_jobs())
        assert sorted(job["status"] for job in jobs) == ["FINISHED:ABANDONED", "FINISHED:COMPLETED"]


def test_the_server_s_parent_is_killed_before_it_has_packed_the_results(run: Toy, tmp_path: Path):
    """What was trained is kept until the results are safe, and no longer."""
    with running(run, tmp_path) as federation:
        local = json.loads((federation.kit(federation.server) / "local/resources.json").read_text())
        (jobs,) = (Path(c["args"]["uri_root"]) for c in local["components"] if c["id"] == "job_manager")
        with submitting(federation, tmp_path):
            wait_for_round(federation, 1)
            (stored,) = (path.parent for path in jobs.rglob("meta"))
            (stored / "workspace").mkdir()  # where the results would go
            federation.wait_for_output(federation.server, "fedgram | results in", seconds=180)
            federation.kill(federation.server, "parent")
        (stored / "workspace").rmdir()
        federation.start(federation.server)
        with submitting(federation, tmp_path) as again:
            output, results = fetched(again, tmp_path)
        assert f"resumed after round {ROUNDS}/{ROUNDS}" in output
        assert_same_as_undisturbed(federation, results, run, tmp_path)
        ended, state = time.monotonic(), federation.kit(federation.server) / "checkpoints"
        while list(state.glob("*/server*")) and time.monotonic() < ended + 60:
            time.sleep(0.5)
        assert not list(state.glob("*/server*"))
