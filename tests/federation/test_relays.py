"""Sites behind a relay of FLARE, on real processes."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from toy import Toy

from benchmarks import relays
from federation import light
from federation.federation import HONEST, running
from federation.gated import CLOSED
from federation.test_failures import (
    ROUNDS,
    assert_red_is_away_for_some_rounds,
    assert_same_as_undisturbed,
    patience,
    records,
    results_of,
    wait_for_round,
)

pytestmark = pytest.mark.federation
BEHIND = {"red": "relay", "green": "relay"}  # blue connects to the server


@pytest.fixture
def run(toy: Toy) -> Toy:
    return toy.with_job(training={"rounds": ROUNDS, "local_steps": 2}, baseline=False)


def test_sites_behind_a_relay_end_with_the_same_model(run: Toy, tmp_path: Path):
    with running(run, tmp_path, relays=BEHIND) as federation:
        for site in run.sites:
            own = federation.kit(site) / "local/relay__resources.json"
            assert own.exists() == (site in BEHIND)
            if own.exists():
                assert json.loads(own.read_text())["relay_config"]["connection_security"] == "mtls"
        job = federation.submit(tmp_path / "job")
        wait_for_round(federation, 1)
        results = results_of(federation, job, tmp_path)
        assert all(set(record["shares"]) == set(run.sites) for record in records(results))
        assert_same_as_undisturbed(federation, results, run, tmp_path)


def test_what_is_lost_with_a_relay_is_asked_for_again(run: Toy, tmp_path: Path):
    """Both sites ask for their next task while the relay says nothing: no answer to that will ever come."""
    with running(run, tmp_path, {**HONEST, "blue": ("gated.GatedExecutor", "blue")}, relays=BEHIND) as federation:
        patience(tmp_path, 120)
        gate = federation.kit("blue") / CLOSED
        gate.touch()
        job = federation.submit(tmp_path / "job")
        for site in BEHIND:
            federation.wait_for_output(federation.server, f"round 1/{ROUNDS}  {site}", seconds=180)
        for pid in federation.pids("relay"):
            os.kill(pid, signal.SIGSTOP)
        for site in BEHIND:
            federation.wait_for_output(federation.server, f"Remove the dead Client. Name: {site}")
        federation.kill("relay")
        federation.start("relay")
        gate.unlink()
        results = results_of(federation, job, tmp_path, seconds=120)
        assert [set(record["shares"]) for record in records(results)] == [set(run.sites)] * ROUNDS
        assert_same_as_undisturbed(federation, results, run, tmp_path)


def test_rounds_go_on_without_a_relay_s_sites_and_with_them_when_it_returns(run: Toy, tmp_path: Path):
    assert_red_is_away_for_some_rounds(run, tmp_path, "relay", relays={"red": "relay"})


def test_many_light_sites_behind_two_relays_count_in_every_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(light.WIDTH, "32")
    found = relays.measure(6, 2, 3, tmp_path)
    assert found["status"] == "FINISHED:COMPLETED"
    assert found["counted in every round"]
    assert found["a relay, MB"] < found["a site, MB"] < found["server, MB"]
