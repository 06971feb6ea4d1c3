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
from fedgram.flare.process.supervisor import BEAT
from toy import Toy, write_site_file

Ask = Callable[..., tuple[Any, str | None]]


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Exit codes of workers: none ends the process of the test."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    return codes


@pytest.fixture
def beats() -> list[str]:
    """The tasks of the signs of life that were heard."""
    return []


@pytest.fixture
def ask(toy: Toy, tmp_path: Path, ended: list[int], beats: list[str]) -> Iterator[Ask]:
    """What red's worker answers to a task."""
    ours, theirs = Pipe()
    write_site_file(tmp_path / "local/fedgram.toml", toy.sites["red"])

    def open_session(job):
        return worker.open_session("red", tmp_path / "local", tmp_path / "state", "red", job)

    before = set(threading.enumerate())
    threading.Thread(target=worker.serve, args=(theirs, open_session), daemon=True).start()

    def ask(task: str, *arguments: object) -> tuple[Any, str | None]:
        ours.send_bytes(pickle.dumps((to_dict(toy.job), task, arguments)))
        while True:
            assert ours.poll(60), "no answer"
            if (message := ours.recv_bytes()) != BEAT:
                return pickle.loads(message)
            beats.append(task)

    yield ask
    (receiving,) = (t for t in threading.enumerate() if t not in before and "_receive" in t.name)
    ours.close()
    receiving.join(60)
    assert ended == [0]  # nobody waits for an answer any more


def test_a_task_is_answered(ask: Ask):
    introduction, kind = ask("introduce")
    assert (introduction.site, kind) == ("red", None)


def test_a_worker_at_work_gives_signs_of_life_and_an_idle_one_none(ask: Ask, beats: list[str]):
    ask("introduce")
    assert set(beats) <= {"introduce"}
    assert beats  # the first comes at once


def test_a_process_whose_gpu_has_failed_ends(ask: Ask, ended: list[int], monkeypatch: pytest.MonkeyPatch, caplog):
    def fail(session: object, error: Exception) -> None:
        raise error

    monkeypatch.setattr(worker, "TASKS", {"fail": fail})
    assert ask("fail", RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"))[1] == "RuntimeError"
    assert ended == []
    ask("fail", RuntimeError("CUDA error: an illegal memory access was encountered"))
    assert ended == [worker.LOST_DEVICE]
    ended.clear()


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
