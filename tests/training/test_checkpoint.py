"""The server's saved state: exact, of this version and this job, or a typed error that says what to do."""

from __future__ import annotations

import errno
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from fedgram import files
from fedgram.errors import CheckpointError
from fedgram.files import read_tensors, write_tensors
from fedgram.records import GlobalState, ModelSpec, RoundRecord
from fedgram.training.checkpoint import Checkpoint, forget_complete
from fedgram.training.server import ServerState
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from some_records import assert_same, records
from toy import Toy


@settings(max_examples=10)
@given(state=records(ServerState))
def test_a_saved_state_comes_back_to_the_bit(toy: Toy, state: ServerState):
    with TemporaryDirectory() as folder:
        Checkpoint(Path(folder), toy.job).save(state)
        assert_same(state, Checkpoint(Path(folder), toy.job).load())


@pytest.fixture
def saved(toy: Toy, tmp_path: Path) -> Path:
    shared = GlobalState(
        round=1,
        anchors_sha256="a" * 64,
        backbone="b" * 64,
        B={"q": torch.ones(3, 2)},
        m={},
        consensus=torch.full((2, 2), torch.nan),
        extra={},
    )
    spec = ModelSpec(shapes={"q": (3, 2, 4)}, backbone="b" * 64, width=4)
    state = ServerState(run="r", state=shared, moments={}, spec=spec, modalities={}, refused=(), records=())
    Checkpoint(tmp_path, toy.job).save(state)
    return tmp_path / "server.safetensors"


def test_what_a_killed_server_left_half_written_is_removed(toy: Toy, saved: Path):
    state = Checkpoint(saved.parent, toy.job).load()
    assert state is not None
    part = saved.with_name("server.next.safetensors.1cf3.part")
    for clean in (lambda checkpoint: checkpoint.save(state), lambda checkpoint: checkpoint.finish()):
        part.write_bytes(b"half of a state")
        clean(Checkpoint(saved.parent, toy.job))
        assert not part.exists()
    assert not list(saved.parent.iterdir())


def test_a_complete_state_stays_until_its_own_job_is_to_be_forgotten(toy: Toy, saved: Path):
    """A run that is done again from it, because its results were lost, belongs to the job that did so."""
    states = saved.parent.parent
    Checkpoint(saved.parent, toy.job).complete("first")
    forget_complete(states, "second")
    again = Checkpoint(saved.parent, toy.job)
    assert again.load() is not None
    again.complete("second")
    forget_complete(states, "first")
    assert again.load() is not None
    forget_complete(states, "second")
    assert not list(saved.parent.iterdir())


def test_a_saved_state_belongs_to_one_run_as_long_as_that_lives(toy: Toy, saved: Path):
    first, second = Checkpoint(saved.parent, toy.job), Checkpoint(saved.parent, toy.job)
    assert first.claim()
    assert not second.claim()
    first.forget("an order to begin again, which removes the folder")
    assert not second.claim()
    del first
    assert second.claim()


def test_where_there_are_no_locks_nobody_waits(toy: Toy, saved: Path, monkeypatch: pytest.MonkeyPatch):
    def no_locks(file: object, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", no_locks)
    both = Checkpoint(saved.parent, toy.job), Checkpoint(saved.parent, toy.job)
    assert [checkpoint.claim() for checkpoint in both] == [True, True]


def test_a_lock_that_cannot_be_written_is_named(toy: Toy, tmp_path: Path):
    (tmp_path / "states").touch()
    with pytest.raises(CheckpointError, match=r"states/job\.lock: cannot be written"):
        Checkpoint(tmp_path / "states/job", toy.job).claim()


def rewrite(path: Path, **changes: Any) -> None:
    """Other entries in the file's header; None takes one out."""
    tensors, metadata = read_tensors(path, "none")
    header = json.loads(metadata["fedgram"]) | changes
    header = {name: value for name, value in header.items() if value is not None}
    write_tensors(path, tensors, {"fedgram": json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "saved by another version of fedgram\n  expected: format 6"),
        ({"format": 2}, "saved by another version of fedgram"),
        ({"job": None}, "saved by a job with other settings"),
        ({"job": "0" * 64}, "saved by a job with other settings"),
        ({"facts": None}, "NoneType for the parts"),
        ({"facts": {}}, "run: missing"),
    ],
)
def test_a_state_that_cannot_be_gone_on_from_is_refused(toy: Toy, saved: Path, changes: dict, message: str):
    rewrite(saved, **changes)
    with pytest.raises(
        CheckpointError, match=rf"(?s)server\.safetensors: {message}.*remedy: restore it from a backup, or delete"
    ):
        Checkpoint(saved.parent, toy.job).load()


def test_a_state_of_before_there_were_formats_is_refused(toy: Toy, saved: Path):
    """As it was written then: every fact at the top, B without the name of the state."""
    facts = {"run": "r", "round": 1, "anchors": "a" * 64, "job": toy.job.fingerprint(), "records": []}
    write_tensors(saved, {"B/q": torch.ones(3, 2), "consensus": torch.eye(2)}, {"fedgram": json.dumps(facts)})
    with pytest.raises(
        CheckpointError, match=r"(?s)another version of fedgram.*remedy: restore it from a backup, or delete"
    ):
        Checkpoint(saved.parent, toy.job).load()


@pytest.mark.parametrize("header", [{}, {"fedgram": "{"}, {"fedgram": "[]"}, {"fedgram": "3"}])
def test_a_header_that_says_nothing_is_damage(toy: Toy, saved: Path, header: dict):
    write_tensors(saved, load_file(saved), header)
    with pytest.raises(CheckpointError, match=r"(?s)damaged.*remedy: restore it from a backup, or delete"):
        Checkpoint(saved.parent, toy.job).load()


def test_a_tensor_that_is_missing_or_unknown_is_named(toy: Toy, saved: Path):
    tensors, header = read_tensors(saved, "none")
    write_tensors(saved, {**tensors, "state/C": torch.zeros(1)}, header)
    with pytest.raises(CheckpointError, match=r"unknown parts \['state/C'\]"):
        Checkpoint(saved.parent, toy.job).load()
    del tensors["state/consensus"]
    write_tensors(saved, tensors, header)
    with pytest.raises(CheckpointError, match="state/consensus: missing"):
        Checkpoint(saved.parent, toy.job).load()


def record(round: int, sites: int = 2) -> RoundRecord:
    numbers = {f"site-{i}": round + i / sites for i in range(sites)}
    whole = dict.fromkeys(numbers, round)
    return RoundRecord(
        round=round,
        shares=numbers,
        metrics={site: {"loss": value} for site, value in numbers.items()},
        payload_bytes=whole,
        rejected={},
        missing=(),
        mean_update_norm=1.0,
        update_norms=numbers,
        seconds=0.5,
        restarts={},
        samples=whole,
    )


def after(state: ServerState, sites: int = 2) -> ServerState:
    """The state after one round more."""
    number = state.state.round + 1
    shared = replace(state.state, round=number, B={"q": torch.full((3, 2), float(number))})
    return replace(state, state=shared, records=(*state.records, record(number, sites)))


@pytest.fixture
def rounds(toy: Toy, saved: Path) -> list[ServerState]:
    """The states after rounds 1 to 3, of which two are saved."""
    checkpoint = Checkpoint(saved.parent, toy.job)
    start = checkpoint.load()
    assert start is not None
    saved.unlink()
    states = [replace(start, records=(record(1),))]
    states += [after(states[0]), after(after(states[0]))]
    for state in states:
        checkpoint.save(state)
    return states


def flips(data: bytes, number: int) -> list[bytes]:
    """Copies with one bit turned, spread over all bytes, the first eight (the header's length) among them."""
    draw = random.Random(number)
    places = [*range(8), *(draw.randrange(len(data)) for _ in range(number))]
    return [data[:i] + bytes([data[i] ^ 1 << draw.randrange(8)]) + data[i + 1 :] for i in places]


def damaged(data: bytes, number: int = 300) -> list[bytes]:
    """Single bits turned, halves and blocks of zeros, truncations, and something after the end."""
    half, size = len(data) // 2, len(data)
    zeroed = [bytes(half) + data[half:], data[:half] + bytes(size - half), bytes(size)]
    return [*flips(data, number), *zeroed, *(data[: size * i // 20] for i in range(20)), data[:-1], data + b"x"]


def test_every_damage_of_the_newest_state_is_noticed_and_the_one_before_is_used(
    toy: Toy, saved: Path, rounds: list
):
    whole = saved.read_bytes()
    for data in damaged(whole):
        saved.write_bytes(data)
        state = Checkpoint(saved.parent, toy.job).load()
        assert_same(rounds[1], replace(state, notes=()))
        assert len(state.notes) == 1
        assert state.notes[0].startswith("server.safetensors: damaged (")
        assert state.notes[0].endswith("went on from the state after round 2")
    saved.write_bytes(whole)
    assert_same(rounds[2], Checkpoint(saved.parent, toy.job).load())


def without_a_layer(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    del tensors["state/B/q"]
    save_file(tensors, path, metadata)


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (without_a_layer, "damaged (its checksum does not fit)"),
        (lambda path: save_file(load_file(path), path), "damaged (no checksum: by fedgram 0.1?)"),
        (lambda path: rewrite(path, format=2), "saved by another version of fedgram"),
    ],
)
def test_a_state_with_a_layer_missing_or_of_another_version_is_not_used(
    toy: Toy, saved: Path, rounds: list, damage: Callable[[Path], None], problem: str
):
    damage(saved)
    state = Checkpoint(saved.parent, toy.job).load()
    assert_same(rounds[1], replace(state, notes=()))
    assert state.notes == (f"server.safetensors: {problem}; went on from the state after round 2",)


def test_without_a_good_state_the_error_names_the_newest_and_the_remedy(toy: Toy, saved: Path, rounds: list):
    for path in saved.parent.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(
        CheckpointError, match=r"(?s)server\.safetensors: damaged.*remedy: restore .* start afresh"
    ):
        Checkpoint(saved.parent, toy.job).load()


def test_a_damaged_state_is_set_aside_by_the_next_round_and_its_note_stays(toy: Toy, saved: Path, rounds: list):
    broken = saved.read_bytes()[:-1]
    saved.write_bytes(broken)
    Checkpoint(saved.parent, toy.job).load()  # and dies before it has saved anything
    again = Checkpoint(saved.parent, toy.job)
    state = again.load()
    assert state is not None
    again.save(after(state))
    assert (saved.parent / "server.damaged.safetensors").read_bytes() == broken
    loaded = Checkpoint(saved.parent, toy.job).load()
    assert_same(rounds[2], replace(loaded, notes=()))
    assert loaded.notes == state.notes
    saved.write_bytes(b"")  # the one before is still the good one of round 2
    assert_same(rounds[1], replace(Checkpoint(saved.parent, toy.job).load(), notes=()))


def test_a_power_cut_between_the_two_renamings_costs_a_round_and_no_more(toy: Toy, saved: Path, rounds: list):
    saved.replace(saved.with_name("server.previous.safetensors"))
    checkpoint = Checkpoint(saved.parent, toy.job)
    assert_same(rounds[2], checkpoint.load())
    checkpoint.finish()
    assert list(saved.parent.iterdir()) == []


@pytest.mark.parametrize("name", ["records.jsonl", "records.copy.jsonl"])
def test_every_damage_of_the_records_is_noticed_and_their_copy_is_used(
    toy: Toy, saved: Path, rounds: list, name: str
):
    path = saved.parent / name
    whole = path.read_bytes()
    for data in [*flips(whole, 200), bytes(len(whole)), *(whole[: len(whole) * i // 9] for i in range(9))]:
        path.write_bytes(data)
        checkpoint = Checkpoint(saved.parent, toy.job)
        state = checkpoint.load()
        assert_same(rounds[2], replace(state, notes=()))
        assert state.notes == (f"{name}: damaged; the records were read from its copy",)
    checkpoint.save(after(rounds[2]))
    for copy in ("records.jsonl", "records.copy.jsonl"):  # either of them is whole again
        other = (saved.parent / copy).read_bytes()
        (saved.parent / copy).unlink()
        assert_same(after(rounds[2]), replace(Checkpoint(saved.parent, toy.job).load(), notes=()))
        (saved.parent / copy).write_bytes(other)


def test_a_record_lost_in_both_files_costs_its_round(toy: Toy, saved: Path, rounds: list):
    for path in saved.parent.glob("*.jsonl"):
        path.write_bytes(path.read_bytes()[:-9])
    state = Checkpoint(saved.parent, toy.job).load()
    assert_same(rounds[1], replace(state, notes=()))
    assert "the record of a round is damaged or missing in both of its copies" in state.notes[0]
    for path in saved.parent.glob("*.jsonl"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="in both of its copies"):
        Checkpoint(saved.parent, toy.job).load()


def test_half_a_line_and_a_round_that_was_done_again_do_not_belong_to_the_state(
    toy: Toy, saved: Path, rounds: list
):
    for path in saved.parent.glob("*.jsonl"):
        with path.open("ab") as file:
            file.write(b'\n{"before": "torn')
    saved.write_bytes(b"")
    checkpoint = Checkpoint(saved.parent, toy.job)
    state = checkpoint.load()
    assert state is not None
    other = replace(record(3), seconds=9.0)  # than the round 3 that is there already
    checkpoint.save(replace(after(state), records=(*state.records, other)))
    loaded = Checkpoint(saved.parent, toy.job).load()
    assert loaded is not None
    assert loaded.records == (record(1), record(2), other)


def test_saving_costs_the_same_in_every_round(toy: Toy, saved: Path):
    """256 sites: the tensors' file does not grow, and each round adds what it has to say and no more."""
    checkpoint = Checkpoint(saved.parent, toy.job)
    state, sizes, growth = checkpoint.load(), [], []
    files = [saved.parent / name for name in ("records.jsonl", "records.copy.jsonl")]
    for _ in range(200):
        before = [path.stat().st_size for path in files]
        state = after(state, sites=256)
        checkpoint.save(state)
        sizes.append(saved.stat().st_size)
        growth += [path.stat().st_size - size for path, size in zip(files, before, strict=True)]
    assert max(sizes) - min(sizes) <= 64
    assert max(growth) < 1.2 * min(growth)
    assert_same(state, Checkpoint(saved.parent, toy.job).load())


def test_a_saved_state_is_forgotten_once_for_every_order(toy: Toy, saved: Path):
    saved.write_bytes(saved.read_bytes()[:100])  # what cannot be read can be forgotten
    checkpoint = Checkpoint(saved.parent, toy.job)
    checkpoint.forget("first")
    assert checkpoint.load() is None
    saved.touch()
    checkpoint.forget("first")
    assert saved.exists()  # the job that brought the order goes on with what it has saved
    checkpoint.forget("second")
    assert not saved.exists()
