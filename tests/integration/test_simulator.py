"""The job on the real simulator: the same result as without FLARE, whatever one site does."""

from __future__ import annotations

import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import faulty
import pytest
import simulator
import torch
from fedgram.cli.main import app
from fedgram.config.privacy import PrivacyConfig
from fedgram.errors import CheckpointError
from fedgram.sites.secret import with_secret
from fedgram.sites.settled import read_directory
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from safetensors.torch import load_file
from some_records import assert_same
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toy import CONCEPTS, Toy
from typer.testing import CliRunner


def plain(toy: Toy, folder: Path) -> Outcome:
    return run_federation(toy.sessions(folder), toy.job, folder / "server")


def assert_same_model(results: Path, outcome: Outcome) -> None:
    saved = load_file(results / "adapter" / "adapter_model.safetensors")
    state = outcome.server.state
    for name, b in state.B.items():
        assert torch.equal(saved[f"{name}.lora_B.weight"], b)
    for name, m in state.m.items():
        assert torch.equal(saved[f"{name}.lora_magnitude_vector"], m)
    consensus = load_file(results / "consensus.safetensors")["consensus"]
    assert torch.equal(consensus, state.consensus)


@pytest.fixture(scope="module")
def honest(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Outcome]:
    """One run with FLARE and one without: folder, the server's results, the plain outcome.

    Red and green share their heads, and their concepts. Blue has drawn a secret, which the plain run is told.
    """
    shared = {name: replace(toy.sites[name], share=("head", "concepts")) for name in ("red", "green")}
    drawn = {"blue": replace(toy.sites["blue"], secret=None)}
    toy = replace(toy, sites={**toy.sites, **shared, **drawn})
    folder = tmp_path_factory.mktemp("honest")
    simulator.prepare(toy, folder)
    results = simulator.run(toy, folder, clients=3)
    assert (results / "report.png").is_file(), (folder / "simulator.log").read_text()[-3000:]
    kept = {"blue": with_secret(toy.sites["blue"], folder / "sites" / "blue")}
    return folder, results, plain(replace(toy, sites={**toy.sites, **kept}), folder / "plain")


def test_flare_and_the_plain_loop_give_the_same_model(honest):
    folder, results, outcome = honest
    assert_same_model(results, outcome)
    for site in outcome.together:
        found, expected = (
            load_file(path / site / "result" / "local.safetensors")
            for path in (folder / "sites", folder / "plain")
        )
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    for place in (results, *(folder / "sites" / site / "result" for site in outcome.together)):
        assert_same(outcome.directory, read_directory(place))
    assert {concept for _, concept in outcome.directory.prototypes} == set(CONCEPTS)
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["test"] == {site: e.metrics for site, e in outcome.together.items()}
    assert metrics["test_alone"] == {site: e.metrics for site, e in outcome.alone.items()}
    assert metrics["test_kept"] == {site: e.metrics for site, e in outcome.kept.items()}
    assert [r["shares"] for r in metrics["rounds"]] == [r.shares for r in outcome.server.records]


def test_what_a_user_finds(honest):
    folder, results, _ = honest
    found = {path.name for path in results.iterdir()} - {"directory.safetensors"}
    assert found == {"adapter", "consensus.safetensors", "metrics.json", "report.txt", "report.html", "report.png"}
    report = (results / "report.txt").read_text()
    for text in ("red", "green", "blue", "debiased CKA", "retrieval P@1", "sent a round"):
        assert text in report
    events = EventAccumulator(str(next((folder / "workspace/server/simulate_job").glob("tb_events/red"))))
    events.Reload()
    assert [e.step for e in events.Scalars("cka")] == [1, 2, 3]
    for site in ("red", "green", "blue"):
        kept = {path.name for path in (folder / "sites" / site / "result").iterdir()}
        model = {"adapter", "local.safetensors", "site.json", "statistics.json"}
        assert kept - {"home", "frozen.safetensors"} == {*model, "kept.json", "directory.safetensors"}
        assert {path.name for path in (folder / "sites" / site / "alone").iterdir()} == model
        plain = folder / "plain" / site / "result" / "kept.json"
        assert (folder / "sites" / site / "result" / "kept.json").read_bytes() == plain.read_bytes()


def test_nothing_private_is_at_the_server(honest):
    """Neither sample ids nor groups nor any weight of a site's own adapter or head."""
    folder, _, _ = honest
    local = load_file(folder / "sites/red/result/local.safetensors")
    adapter = local["local/adapter.linear.weight"].numpy().tobytes()[:64]
    for path in (folder / "workspace" / "server").rglob("*"):
        if path.is_file():
            assert adapter not in path.read_bytes(), path


def test_the_command_line_answers_across_modalities(honest, toy: Toy):
    folder, results, _ = honest
    sites = {name: str(folder / "sites" / name / "result") for name in toy.sites}
    rye = str(Path(toy.sites["red"].heldout or "") / "red" / "6.csv")  # a held-out anchor that no site trained on
    found = CliRunner().invoke(app, ["retrieve", sites["red"], sites["green"], rye, "-k", "3"])
    assert found.exit_code == 0, found.output
    assert found.output.count("rye") == 3
    named = CliRunner().invoke(app, ["classify", sites["red"], sites["green"], rye])
    assert named.exit_code == 0, named.output
    assert "rye" in named.output
    report = CliRunner().invoke(app, ["report", str(results), *sites.values()])
    assert report.exit_code == 0, report.output
    assert "no site ever saw a pair" in report.output
    crossmodal = json.loads((results / "crossmodal.json").read_text())
    assert len(crossmodal["retrieval_alone"]) == len(crossmodal["retrieval"]) == 6
    comparisons = crossmodal["retrieval"]
    assert {(c["query"], c["gallery"]) for c in comparisons} >= {("red", "blue"), ("blue", "green")}
    assert all(c["relative"] > c["chance"] for c in comparisons)
    (results / "crossmodal.json").unlink()
    (results / "crossmodal.png").unlink()


def test_a_missing_result_is_one_clear_error(tmp_path: Path):
    for command in (["retrieve", str(tmp_path), str(tmp_path), "x"], ["report", str(tmp_path)]):
        answer = CliRunner().invoke(app, command)
        assert answer.exit_code == 1
        assert isinstance(answer.exception, SystemExit)


@pytest.mark.slow
def test_a_private_site_gives_the_same_with_flare_and_without(toy: Toy, tmp_path: Path):
    """Its noise follows from a secret that it has drawn, which the plain run is told; the accounts agree."""
    promised = PrivacyConfig(epsilon=8.0, delta=1e-3)
    run = toy.with_job(training={"rounds": 2, "local_steps": 2}, baseline=False)
    blue = replace(run.sites["blue"], secret=None, privacy=promised)
    run = replace(run, sites={**run.sites, "blue": blue})
    simulator.prepare(run, tmp_path)
    results = simulator.run(run, tmp_path, clients=3)
    told = {"blue": with_secret(blue, tmp_path / "sites" / "blue")}
    outcome = plain(replace(run, sites={**run.sites, **told}), tmp_path / "plain")
    assert_same_model(results, outcome)
    booked = [
        list(next(iter(json.loads((folder / "blue/privacy.json").read_text())["jobs"].values()))["rounds"])
        for folder in (tmp_path / "sites", tmp_path / "plain")
    ]
    assert booked[0] == booked[1]
    assert len(booked[0]) == 2
    metrics = json.loads((results / "metrics.json").read_text())
    assert metrics["privacy"] == {"blue": {"epsilon": 8.0, "delta": 1e-3}}
    assert metrics["test"]["blue"] == {}
    sent = (tmp_path / "workspace/blue/fedgram/blue/sent.jsonl").read_text()
    assert '"samples": 1' in sent
    assert "accuracy" not in sent


@pytest.mark.slow
def test_one_bad_site_is_refused_by_name_and_changes_nothing(toy: Toy, tmp_path: Path):
    """Mallory breaks the contract differently in every round; the others end where they would without her."""
    run = toy.with_job(
        training={"rounds": 1 + len(faulty.FAULTS), "local_steps": 1},
        aggregation={"deadline_seconds": 20},
        baseline=False,
    )
    executors = {name: (simulator.HONEST, name) for name in run.sites}
    simulator.prepare(run, tmp_path, {**executors, "mallory": ("faulty.FaultyExecutor", "red")})
    results = simulator.run(run, tmp_path, clients=4)
    assert (results / "report.png").is_file(), (tmp_path / "simulator.log").read_text()[-3000:]
    first, *records = json.loads((results / "metrics.json").read_text())["rounds"]
    assert set(first["shares"]) == set(run.sites)
    for record, (fault, (_, reason)) in zip(records, faulty.FAULTS.items(), strict=True):
        assert set(record["shares"]) == set(run.sites), fault
        if reason is None:
            assert record["missing"] == ["mallory"], fault
        else:
            assert reason in record["rejected"]["mallory"], fault
    assert_same_model(results, plain(run, tmp_path / "plain"))
    log = (tmp_path / "workspace/server/log.txt").read_text()
    assert "mallory does not count: mallory: answered with DataError" in log
    assert "patient 7" not in log  # the text of an exception stays at the site


@pytest.mark.slow
def test_too_few_good_sites_end_the_job_with_the_reason(toy: Toy, tmp_path: Path):
    simulator.prepare(
        toy, tmp_path, {"red": (simulator.HONEST, "red"), "mallory": ("faulty.FaultyExecutor", "green")}
    )
    results = simulator.run(toy, tmp_path, clients=2)
    assert not results.exists()
    assert "1 sites agree on model and anchors" in (tmp_path / "simulator.log").read_text()


@pytest.mark.slow
def test_kill_minus_nine_and_run_again(toy: Toy, tmp_path: Path):
    """All processes die at once in mid-run; the same command goes on and ends at the same model."""
    run = toy.with_job(training={"rounds": 40, "local_steps": 1}, baseline=False)
    simulator.prepare(run, tmp_path)
    state = tmp_path / "server-state" / run.job.fingerprint()[:16]
    with start_and_kill_after(run, tmp_path, state, rounds=3) as interrupted:
        assert 3 <= interrupted < 40
    results = simulator.run(run, tmp_path, clients=3)
    assert "resumed after round" in (tmp_path / "simulator.log").read_text()
    assert_same_model(results, plain(run, tmp_path / "plain"))


class start_and_kill_after:
    """Start the simulator and kill its whole process group once so many rounds are saved."""

    def __init__(self, run: Toy, folder: Path, state: Path, rounds: int):
        self._run, self._folder, self._state, self._rounds = run, folder, state, rounds

    def __enter__(self) -> int:
        process = simulator.start(self._run, self._folder, clients=3)
        saved = None
        while process.poll() is None and (saved is None or saved.state.round < self._rounds):
            time.sleep(0.02)
            try:
                saved = Checkpoint(self._state, self._run.job).load()
            except CheckpointError:  # a file that is just being replaced
                continue
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return saved.state.round if saved else 0

    def __exit__(self, *exc: object) -> None:
        return None
