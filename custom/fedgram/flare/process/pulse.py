"""The signs of life of a worker while it computes: the supervisor ends one that gives none.

A process that is stopped, or whose interpreter is stuck, falls silent by itself. One that waits for a GPU that
does not answer still has threads that run. So a pulse beats only while the work goes on: a module computes
(every step of training, every batch of tokens), or any thread is at another place in its Python code than
before.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

from torch.nn.modules.module import register_module_forward_pre_hook

BEAT_SECONDS = 1.0
STUCK_SECONDS = 600.0  # at one place, in one call: a table of many gigabytes is read in less

_steps = 0


def _count(module: object, arguments: object) -> None:
    global _steps
    _steps += 1


class Pulse:
    """A thread that beats while work goes on.

    Args:
        beat: called now and then, never once :meth:`working` has ended.
    """

    def __init__(self, beat: Callable[[], None]):
        self._beat, self._lock, self._since = beat, threading.Lock(), 0.0
        self._work = threading.Event()
        self._place: Any = None
        register_module_forward_pre_hook(_count)
        threading.Thread(target=self._run, daemon=True).start()

    @contextmanager
    def working(self) -> Generator[None]:
        """Beat from now until the block ends."""
        with self._lock:
            self._since = time.monotonic()
        self._work.set()
        try:
            yield
        finally:
            with self._lock:
                self._work.clear()

    def _run(self) -> None:
        while True:
            self._work.wait()
            with self._lock:
                if self._work.is_set() and self._goes_on():
                    with suppress(OSError):  # nobody listens any more
                        self._beat()
            time.sleep(BEAT_SECONDS)

    def _goes_on(self) -> bool:
        """Whether anything has moved in the last minutes."""
        place, now = (_steps, _places()), time.monotonic()
        if place != self._place:
            self._place, self._since = place, now
        return now - self._since < STUCK_SECONDS


def _places() -> list[list[tuple[int, int]]]:
    """The places in Python code at which all other threads of this process are, each with its callers."""
    frames = sys._current_frames()
    frames.pop(threading.get_ident(), None)
    return [_stack(frames[thread]) for thread in sorted(frames)]


def _stack(frame: Any) -> list[tuple[int, int]]:
    places = []
    while frame is not None:
        places.append((id(frame.f_code), frame.f_lasti))
        frame = frame.f_back
    return places
