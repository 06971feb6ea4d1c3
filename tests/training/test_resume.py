"""An interrupted run goes on at the next round and ends where an uninterrupted one ends, to the last bit."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.errors import CheckpointError
from fedgram.records import RoundRecord
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from safetensors.torch import load_file
from some_records import assert_same
from toy import Toy


class PowerCut(Exception):
    pass


def cut_after(round: int):
    def watch(record: RoundRecord) -> None:
        if record.round == round:
            raise PowerCut

    return watch


def same(a: Outcome, b: Outcome) -> None:
    assert all(torch.equal(x, b.server.state.B[k]) for k, x in a.server.state.B.items())
    assert all(torch.equal(x, b.server.state.m[k]) for k, x in a.server.state.m.items())
    assert torch.equal(a.server.state.consensus, b.server.state.consensus)
    for site in a.together:
        assert a.together[site].metrics == b.together[site].metrics
        assert torch.equal(a.together[site].gram, b.together[site].gram)


@pytest.fixture(scope="module")
def toy(toy: Toy) -> Toy:
    return toy.with_job(training={"local_steps": 2}, baseline=False)


@pytest.fixture(scope="module")
def uninterrupted(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("uninterrupted")
    return run_federation(toy.sessions(folder), toy.job, folder / "server"), folder


@pytest.mark.parametrize("magnitude", ["mean", "private"])
def test_resume_after_a_power_cut(toy: Toy, tmp_path: Path, magnitude: str):
    run = toy.with_job(adapter={"magnitude": magnitude}, baseline=magnitude == "mean")
    whole = run_federation(run.sessions(tmp_path / "a"), run.job, tmp_path / "a" / "server")
    with pytest.raises(PowerCut):
        run_federation(run.sessions(tmp_path / "b"), run.job, tmp_path / "b" / "server", cut_after(2))
    resumed = run_federation(run.sessions(tmp_path / "b"), run.job, tmp_path / "b" / "server")
    assert [r.round for r in resumed.server.records] == [1, 2, 3]
    same(whole, resumed)


def test_a_server_that_lost_a_round_makes_the_sites_step_back(toy: Toy, tmp_path: Path, uninterrupted):
    """The server dies in round 2 after the sites have trained it: they redo it from their state after round 1."""
    sessions = toy.sessions(tmp_path)
    with pytest.raises(PowerCut):
        run_federation(sessions, toy.job, tmp_path / "server", cut_after(1))
    saved = Checkpoint(tmp_path / "server", toy.job).load()
    assert saved is not None
    for session in sessions.values():
        session.train(saved.run, saved.state)  # round 2, whose replies the server never saved
    resumed = run_federation(sessions, toy.job, tmp_path / "server")
    same(uninterrupted[0], resumed)


def test_a_finished_run_leaves_its_result_and_no_checkpoint(toy: Toy, uninterrupted):
    outcome, folder = uninterrupted
    assert Checkpoint(folder / "server", toy.job).load() is None
    local = load_file(folder / "red" / "result" / "local.safetensors")
    shared = {k.removeprefix("B/"): v for k, v in local.items() if k.startswith("B/")}
    assert all(torch.equal(b, shared[k]) for k, b in outcome.server.state.B.items())


@pytest.fixture
def stopped(toy: Toy, tmp_path: Path) -> Path:
    """The server's folder after a power cut in round 2."""
    with pytest.raises(PowerCut):
        run_federation(toy.sessions(tmp_path), toy.job, tmp_path / "server", cut_after(1))
    return tmp_path / "server"


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """The operating system itself refuses to write more, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_is_full_leaves_the_last_round_saved(toy: Toy, stopped: Path):
    state = Checkpoint(stopped, toy.job).load()
    assert state is not None
    before = {path.name: path.read_bytes() for path in stopped.iterdir()}
    room = len(before["server.safetensors"])
    with no_file_beyond(room), pytest.raises(CheckpointError, match="it goes on after the last round saved"):
        Checkpoint(stopped, toy.job).save(replace(state, moments={"more": torch.zeros(room)}))
    assert {path.name for path in stopped.iterdir()} == before.keys()
    assert (stopped / "server.safetensors").read_bytes() == before["server.safetensors"]
    with no_file_beyond(100), pytest.raises(CheckpointError, match=r"records\.jsonl: cannot be written"):
        Checkpoint(stopped, toy.job).save(state)
    assert_same(state, Checkpoint(stopped, toy.job).load())


def test_a_run_whose_newest_states_are_damaged_ends_with_the_same_bits(toy: Toy, tmp_path: Path, uninterrupted):
    """The server goes back to round 1, the sites have trained round 3, and one of them finds damaged files."""
    sessions = toy.sessions(tmp_path)
    with pytest.raises(PowerCut):
        run_federation(sessions, toy.job, tmp_path / "server", cut_after(2))
    saved = Checkpoint(tmp_path / "server", toy.job).load()
    assert saved is not None
    for session in sessions.values():
        session.train(saved.run, saved.state)
    for state in (tmp_path / "red").glob("run-*/round-*.safetensors"):
        state.write_bytes(state.read_bytes()[:-1])
    newest = tmp_path / "server" / "server.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    resumed = run_federation(toy.sessions(tmp_path), toy.job, tmp_path / "server")
    same(uninterrupted[0], resumed)
    assert [record.round for record in resumed.server.records] == [1, 2, 3]
    assert resumed.server.notes[0].endswith("went on from the state after round 1")


def test_a_checkpoint_of_other_settings_is_refused(toy: Toy, stopped: Path):
    with pytest.raises(CheckpointError, match="other settings"):
        Checkpoint(stopped, toy.with_job(training={"rounds": 9}).job).load()


def test_a_damaged_checkpoint_is_named(toy: Toy, stopped: Path):
    path = next(stopped.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(CheckpointError, match=r"server\.safetensors: damaged"):
        Checkpoint(stopped, toy.job).load()
