"""A pulse beats while something moves, and not a moment longer."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch
from fedgram.flare.process import pulse
from fedgram.flare.process.pulse import STUCK_SECONDS, Pulse


def test_a_thread_that_stays_at_one_place_is_stuck_until_it_moves_or_a_module_computes(
    monkeypatch: pytest.MonkeyPatch,
):
    now, waiting, done = [0.0], threading.Event(), threading.Event()

    def work() -> None:
        waiting.set()
        done.wait()

    threading.Thread(target=work, daemon=True).start()
    waiting.wait()
    still = Pulse(lambda: None)
    monkeypatch.setattr(pulse, "time", SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: None))
    monkeypatch.setattr(pulse, "_places", list)  # of the other tests' threads

    def goes_on(at: float) -> bool:
        now[0] = at
        return still._goes_on()

    assert goes_on(0.0)
    assert goes_on(STUCK_SECONDS - 1)
    assert not goes_on(STUCK_SECONDS)
    torch.nn.Linear(2, 2)(torch.ones(2))
    assert goes_on(STUCK_SECONDS + 1)
    assert not goes_on(2 * STUCK_SECONDS + 1)
    monkeypatch.setattr(pulse, "_places", lambda: [[(1, 2)]])
    assert goes_on(2 * STUCK_SECONDS + 2)
    done.set()


def test_the_place_of_a_thread_is_where_it_is_in_its_code():
    steps = [threading.Event() for _ in range(4)]

    def work() -> None:
        steps[0].set()
        steps[1].wait()
        steps[2].set()
        steps[3].wait()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    code = id(work.__code__)

    def place() -> list[tuple[int, int]]:
        return [at for stack in pulse._places() for at in stack if at[0] == code]

    steps[0].wait()
    before = {tuple(place()) for _ in range(3)}
    steps[1].set()
    steps[2].wait()
    assert {tuple(place()) for _ in range(3)}.isdisjoint(before)
    steps[3].set()
    thread.join()
    assert place() == []


def test_nothing_beats_before_and_after_the_work(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pulse, "BEAT_SECONDS", 0.001)
    heard = threading.Semaphore(0)
    living = Pulse(heard.release)
    assert not heard.acquire(blocking=False)
    for _ in range(2):
        with living.working():
            assert heard.acquire(timeout=60)
            assert heard.acquire(timeout=60)
        while heard.acquire(blocking=False):
            pass
        assert not heard.acquire(timeout=0.01)
