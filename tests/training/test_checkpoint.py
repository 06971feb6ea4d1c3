"""The server's saved state: exact, of this version and this job, or a typed error that says what to do."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors
from fedgram.records import GlobalState, ModelSpec
from fedgram.training import checkpoint
from fedgram.training.server import ServerState
from hypothesis import given, settings
from safetensors import safe_open
from safetensors.torch import load_file
from some_records import assert_same, records
from toy import Toy


@settings(max_examples=10)
@given(state=records(ServerState))
def test_a_saved_state_comes_back_to_the_bit(toy: Toy, state: ServerState):
    with TemporaryDirectory() as folder:
        checkpoint.save(Path(folder), state, toy.job)
        assert_same(state, checkpoint.load(Path(folder), toy.job))


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
    checkpoint.save(tmp_path, state, toy.job)
    return tmp_path / "server.safetensors"


def rewrite(path: Path, **changes: Any) -> None:
    """Other entries in the file's header; None takes one out."""
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["fedgram"]) | changes
    header = {name: value for name, value in header.items() if value is not None}
    write_tensors(path, load_file(path), {"fedgram": json.dumps(header)})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": None}, "saved by another version of fedgram\n  expected: format 2"),
        ({"format": 1}, "saved by another version of fedgram"),
        ({"job": None}, "saved by a job with other settings"),
        ({"job": "0" * 64}, "saved by a job with other settings"),
        ({"facts": None}, "NoneType for the parts"),
        ({"facts": {}}, "run: missing"),
    ],
)
def test_a_state_that_cannot_be_gone_on_from_is_refused(toy: Toy, saved: Path, changes: dict, message: str):
    rewrite(saved, **changes)
    with pytest.raises(CheckpointError, match=rf"(?s)server\.safetensors: {message}.*remedy: delete it"):
        checkpoint.load(saved.parent, toy.job)


def test_a_state_of_before_there_were_formats_is_refused(toy: Toy, saved: Path):
    """As it was written then: every fact at the top, B without the name of the state."""
    facts = {"run": "r", "round": 1, "anchors": "a" * 64, "job": toy.job.fingerprint(), "records": []}
    write_tensors(saved, {"B/q": torch.ones(3, 2), "consensus": torch.eye(2)}, {"fedgram": json.dumps(facts)})
    with pytest.raises(CheckpointError, match=r"(?s)another version of fedgram.*remedy: delete it"):
        checkpoint.load(saved.parent, toy.job)


@pytest.mark.parametrize("header", [{}, {"fedgram": "{"}, {"fedgram": "[]"}, {"fedgram": "3"}])
def test_a_header_that_says_nothing_is_damage(toy: Toy, saved: Path, header: dict):
    write_tensors(saved, load_file(saved), header)
    with pytest.raises(CheckpointError, match=r"(?s)damaged.*remedy: delete it"):
        checkpoint.load(saved.parent, toy.job)


def test_a_tensor_that_is_missing_or_unknown_is_named(toy: Toy, saved: Path):
    with safe_open(saved, framework="pt") as file:
        header = file.metadata()
    tensors = load_file(saved)
    write_tensors(saved, {**tensors, "state/C": torch.zeros(1)}, header)
    with pytest.raises(CheckpointError, match=r"unknown parts \['state/C'\]"):
        checkpoint.load(saved.parent, toy.job)
    del tensors["state/consensus"]
    write_tensors(saved, tensors, header)
    with pytest.raises(CheckpointError, match="state/consensus: missing"):
        checkpoint.load(saved.parent, toy.job)
