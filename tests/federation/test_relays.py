"""Sites behind a relay of FLARE, on real processes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from toy import Toy

from benchmarks import relays
from federation import light
from federation.federation import running
from federation.test_failures import (
    ROUNDS,
    assert_same_as_undisturbed,
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


def test_many_light_sites_behind_two_relays_count_in_every_round(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(light.WIDTH, "32")
    found = relays.measure(6, 2, 3, tmp_path)
    assert found["status"] == "FINISHED:COMPLETED"
    assert found["counted in every round"]
    assert found["a relay, MB"] < found["a site, MB"] < found["server, MB"]
