"""Whom the server's controller sends a task to, and how many must answer."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.errors import RoundFailed
from fedgram.flare import wire
from fedgram.flare.controller import GramController
from fedgram.flare.progress import Progress
from fedgram.records import GlobalState, ModelSpec, SiteEvaluation
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.server import ServerState
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel


@pytest.mark.parametrize(
    ("dead", "sent"), [([], [["green", "red"]]), (["red"], [["green"]]), (["green", "red"], [])]
)
def test_a_task_goes_to_the_living_and_to_nobody_where_there_is_none(
    dead: list[str], sent: list[list[str]], monkeypatch: pytest.MonkeyPatch
):
    controller = GramController({})
    found: list[Any] = []
    monkeypatch.setattr(controller, "broadcast_model", lambda **task: found.append(task["targets"]))
    monkeypatch.setattr(controller, "get_client_disconnect_time", lambda site: 1.0 if site in dead else None)
    controller._send("gram", FLModel(), ["green", "red"], 60, lambda *reply: None, lambda *refusal: None)
    assert found == sent


def test_a_last_stage_that_too_few_sites_answer_ends_the_job_and_not_its_state(monkeypatch: pytest.MonkeyPatch):
    """Else a run without a single result would count as complete, and what it had trained would be forgotten."""
    controller, job = GramController({}), JobConfig(AnchorPin("0" * 64, tuple("aabb")))
    state = GlobalState(round=1, B={}, m={}, consensus=torch.eye(4), anchors_sha256="0" * 64, backbone="")
    run = ServerState(
        run="r",
        state=state,
        moments={},
        spec=ModelSpec(shapes={}, backbone="", width=1),
        modalities=dict.fromkeys("abc", "image"),
    )
    reply = SiteEvaluation(site="a", metrics={}, gram=torch.eye(4), slots=(0, 1, 2, 3), heldout_slots=())

    def ask(task: str, data: FLModel, sites: list[str], seconds: int, receive: Any, refuse: Any, waiting: Any):
        for site in sites:
            refuse(site, f"{site}: DataError") if site in broken else receive(site, wire.encode_reply(reply))

    monkeypatch.setattr(controller, "_sites", lambda refused: ["a", "b", "c"])
    monkeypatch.setattr(controller, "_ask", ask)
    monkeypatch.setattr(controller, "_guard", SimpleNamespace(task=lambda limit: nullcontext()), raising=False)
    progress = Progress(job, lambda line: None)
    broken = ["c"]
    assert set(controller._evaluations(wire.SETTLE, run, job, progress)) == {"a", "b"}
    broken = ["b", "c"]
    with pytest.raises(RoundFailed, match=r"(?s)settle: 1 good replies.*at least 2"):
        controller._evaluations(wire.SETTLE, run, job, progress)


def test_of_two_jobs_with_the_same_settings_the_second_begins_when_the_first_has_ended(tmp_path: Path):
    controller, job = GramController({}), JobConfig(AnchorPin("0" * 64, tuple("aabb")))
    controller.abort_signal = Signal()
    said: list[str] = []
    first, second = Checkpoint(tmp_path / "job", job), Checkpoint(tmp_path / "job", job)
    controller._take_turn(first, Progress(job, said.append))
    assert said == []
    waiting = threading.Thread(target=controller._take_turn, args=(second, Progress(job, said.append)))
    waiting.start()
    while not said:
        waiting.join(0.01)
        assert waiting.is_alive()
    assert "another job with the same settings runs" in said[0]
    del first
    waiting.join(60)
    assert not waiting.is_alive()
    assert len(said) == 1


def test_a_job_that_waits_for_another_can_be_aborted(tmp_path: Path):
    controller, job = GramController({}), JobConfig(AnchorPin("0" * 64, tuple("aabb")))
    controller.abort_signal = Signal()
    controller.abort_signal.trigger(True)
    first, second = Checkpoint(tmp_path / "job", job), Checkpoint(tmp_path / "job", job)
    assert first.claim()
    with pytest.raises(RoundFailed, match="the job was aborted"):
        controller._take_turn(second, Progress(job, lambda line: None))
