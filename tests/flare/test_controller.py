"""Whom the server's controller sends a task to."""

from __future__ import annotations

from typing import Any

import pytest
from fedgram.flare.controller import GramController
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
