"""The worker's side of the socket, without a process of its own."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
from fedgram.config.strict import to_dict
from fedgram.flare.process import worker
from toy import Toy, write_site_file

Ask = Callable[..., tuple[Any, str | None]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of workers: none ends the process of the test."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def ask(toy: Toy, tmp_path: Path, ended: list[int]) -> Iterator[Ask]:
    """What red's worker answers to a task."""
    ours, theirs = Pipe()
    write_site_file(tmp_path / "local/fedgram.toml", toy.sites["red"])

    def open_session(job):
        return worker.open_session("red", tmp_path / "local", tmp_path / "state", "red", job)

    before = set(threading.enumerate())
    threading.Thread(target=worker.serve, args=(theirs, open_session), daemon=True).start()

    def ask(task: str, *arguments: object) -> tuple[Any, str | None]:
        ours.send_bytes(pickle.dumps((to_dict(toy.job), task, arguments)))
        assert ours.poll(60), "no answer"
        return pickle.loads(ours.recv_bytes())

    yield ask
    (receiving,) = (t for t in threading.enumerate() if t not in before and "_receive" in t.name)
    ours.close()
    receiving.join(60)
    assert ended == [0]  # nobody waits for an answer any more


def test_a_task_is_answered(ask: Ask):
    introduction, kind = ask("introduce")
    assert (introduction.site, kind) == ("red", None)


def test_the_kind_of_an_error_goes_back_and_its_text_stays(ask: Ask, toy: Toy, tmp_path: Path, caplog):
    path = tmp_path / "local/fedgram.toml"
    write_site_file(path, replace(toy.sites["red"], data="/nowhere/patients.csv"))
    assert ask("introduce") == (None, "FileNotFoundError")
    assert "/nowhere/patients.csv" in caplog.text
    assert ask("a task that there is not") == (None, "FileNotFoundError")
    write_site_file(path, toy.sites["red"])
    assert ask("a task that there is not") == (None, "KeyError")


def test_a_corrected_site_file_is_read_at_the_next_task(ask: Ask, toy: Toy, tmp_path: Path, caplog):
    path = tmp_path / "local/fedgram.toml"
    write_site_file(path, replace(toy.sites["red"], modality="toy_modalities:GREEN"))
    assert ask("introduce") == (None, "ConfigError")
    assert "'green'\n  expected: 'red' as in the job" in caplog.text
    write_site_file(path, toy.sites["red"])
    introduction, _ = ask("introduce")
    assert introduction.site == "red"
