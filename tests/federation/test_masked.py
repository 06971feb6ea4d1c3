"""Masked jobs on real processes: signed keys, the model of the plain mean, and kill -9 in every phase."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import simulator
from masked_toy import NAMES, four
from test_simulator import assert_same_model, plain
from toy import Toy

from federation.federation import HONEST, running
from federation.gated import CLOSED
from federation.test_failures import fetched, patience, records, results_of, submitting

pytestmark = pytest.mark.federation

FOUR = {**HONEST, "violet": (simulator.HONEST, "red")}
FIVE = {"training": {"rounds": 5, "local_steps": 1}, "baseline": False}


def counted(results: Path) -> list[set[str]]:
    return [set(record["metrics"]) for record in records(results)]


def test_a_masked_job_ends_with_the_model_of_a_plain_mean_without_flare(toy: Toy, tmp_path: Path):
    changes = {"training": {"rounds": 2, "local_steps": 2}, "baseline": True}
    run = four(toy, **changes)
    with running(run, tmp_path, FOUR) as federation:
        job = federation.submit(tmp_path / "job")
        results = results_of(federation, job, tmp_path)
    masked, unmasked = plain(run, tmp_path / "plain"), plain(four(toy, masked=False, **changes), tmp_path / "mean")
    assert_same_model(results, masked)
    assert_same_model(results, unmasked)
    found = json.loads((results / "metrics.json").read_text())
    assert found["test"] == found["test_kept"] == found["test_alone"] == {name: {} for name in NAMES}
    for name in NAMES:
        kit = federation.kit(name)
        lines = [json.loads(line) for line in (kit / f"fedgram/{name}/sent.jsonl").read_text().splitlines()]
        keys = [line["values"] for line in lines if line["task"] == "mask_keys"]
        assert len(keys) == 3
        assert all(len(key["signature"]) == 512 and "BEGIN CERTIFICATE" in key["certificate"] for key in keys)
        assert not {"train", "error"} & {word for line in lines for word in (line["task"], *line)}
        tensors = {tensor for line in lines for tensor, facts in line["tensors"].items() if facts["bytes"]}
        assert all(tensor.startswith(("sums/", "m/")) for tensor in tensors), tensors


def test_processes_of_two_sites_are_killed_in_every_phase(toy: Toy, tmp_path: Path):
    """One that trains, after it has answered, and FLARE's own at another site, before it does."""
    run = four(toy, **FIVE)
    executors = {**FOUR, "green": ("mortal.MortalExecutor", "green"), "red": ("mortal.FallingExecutor", "red")}
    with running(run, tmp_path, executors) as federation:
        patience(tmp_path, 300)
        job = federation.submit(tmp_path / "job")
        results = results_of(federation, job, tmp_path, seconds=1200)
        assert len([*federation.kit("red").glob("fell-*")]) == 5
    assert counted(results) == [set(NAMES)] * 5
    assert_same_model(results, plain(run, tmp_path / "plain"))


def test_the_server_s_job_is_killed_while_masked_values_come_and_goes_on(toy: Toy, tmp_path: Path):
    run = four(toy, **FIVE)
    executors = {**FOUR, "green": ("gated.GatedExecutor", "green")}
    with running(run, tmp_path, executors) as federation:
        gate = federation.kit("green") / CLOSED
        gate.write_text("3")
        with submitting(federation, tmp_path) as command:
            federation.wait_for_output(federation.server, "round 3/5  blue             masked", seconds=400)
            federation.kill(federation.server, "job")
            gate.unlink()
            output, results = fetched(command, tmp_path)
        assert "resumed after round 2" in output
    assert_same_model(results, plain(run, tmp_path / "plain"))


def test_a_site_that_is_gone_in_mid_sum_is_taken_out_of_it(toy: Toy, tmp_path: Path):
    """Blue's masks are taken off with the shares of its key; the next sums are over three."""
    run = four(toy, **FIVE)
    executors = {**FOUR, "green": ("gated.GatedExecutor", "green"), "blue": ("gated.GatedExecutor", "blue")}
    with running(run, tmp_path, executors) as federation:
        gates = [federation.kit(name) / CLOSED for name in ("green", "blue")]
        for gate in gates:
            gate.write_text("2")
        patience(tmp_path, 1)
        job = federation.submit(tmp_path / "job")
        federation.wait_for_output(federation.server, "round 2/5  red              masked", seconds=400)
        federation.kill("blue")
        gates[0].unlink()
        results = results_of(federation, job, tmp_path, seconds=900)
    assert counted(results) == [set(NAMES), *([{"green", "red", "violet"}] * 4)]
    assert not json.loads((results / "metrics.json").read_text())["notes"]
