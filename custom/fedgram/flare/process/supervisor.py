"""The supervisor of a site's worker process: the part that must not die, so it loads no model and reads no data.

FLARE 2.9.0 fails a whole job when one site's job process dies, as the out-of-memory killer makes it die. The
work therefore runs in a child of that process (:mod:`fedgram.flare.process.worker`). A worker that dies is
started again and asked again; a round begins from saved state, so the answer is the one it would have given.
One that gives no sign of life, because it is stopped or waits for a GPU that does not answer, is ended first
(:mod:`fedgram.flare.process.pulse`).
"""

from __future__ import annotations

import logging
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

log = logging.getLogger("fedgram.supervisor")

_ATTEMPTS = 3
_POLL_SECONDS = 0.05
BEAT = b""  # a message of the worker's that says nothing but that it is at work
_START_SECONDS, _SILENT_SECONDS = 600.0, 120.0  # until its first sign of life, and from one to the next
_END_SECONDS = 10.0  # a process that waits for a device may not even die


class WorkerFailed(Exception):
    """The worker could not answer; ``kind`` is the name of its error, whose text is in the site's own log."""

    def __init__(self, kind: str):
        self.kind = kind
        super().__init__(kind)


class Stopped(Exception):
    """The task was called off while the worker was at it."""


class Supervisor:
    """A client of a worker process, which it starts when there is none.

    Args:
        name: of the site.
        local: folder with the site file.
        folder: of the site's state; the worker's output goes to ``<folder>/<name>/log.txt``.
        modality: that the job expects at this site.
        job: the job's settings, as plain data.
    """

    def __init__(self, name: str, local: Path, folder: Path, modality: str, job: Mapping[str, Any]):
        self._arguments = [name, str(local), str(folder), modality]
        self._log, self._job = folder / name / "log.txt", job
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._heard: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()  # of the worker, in the end None
        self._is_up = False  # whether the worker has given a sign of life
        self.restarts = 0

    def ask(self, task: str, *arguments: object, stopped: Callable[[], bool] = lambda: False) -> Any:
        """Ask the worker for its reply to a task of :data:`~fedgram.flare.process.worker.TASKS`.

        Raises:
            WorkerFailed: it reported an error, or died or hung in each of three attempts.
            Stopped: ``stopped`` became true; the worker is ended, its saved state stays.
        """
        request = pickle.dumps((self._job, task, arguments))
        for _ in range(_ATTEMPTS):
            if self._connection is None:
                self._start()
            try:
                reply, kind = pickle.loads(self._answer(request, stopped))
            except (EOFError, TimeoutError) as error:
                what, code = "hung" if isinstance(error, TimeoutError) else "ended", self.close()
                self.restarts += 1
                log.warning("the training process %s in task %r (code %s) and is started again", what, task, code)
                continue
            if kind is not None:
                raise WorkerFailed(kind)
            return reply
        raise WorkerFailed("WorkerDied")

    def _answer(self, request: bytes, stopped: Callable[[], bool]) -> bytes:
        """Send a request and wait for the worker's answer.

        Raises:
            EOFError: the worker has ended.
            TimeoutError: it gives no sign of life.
            Stopped: see :meth:`ask`.
        """
        threading.Thread(target=_send, args=(self._connection, request), daemon=True).start()
        heard = time.monotonic()
        while True:
            try:
                message = self._heard.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if stopped():
                    self.close()
                    raise Stopped from None
                if time.monotonic() - heard > (_SILENT_SECONDS if self._is_up else _START_SECONDS):
                    raise TimeoutError from None
                continue
            if message is None:
                raise EOFError
            if message != BEAT:
                return message
            heard, self._is_up = time.monotonic(), True

    def close(self) -> int | None:
        """End the worker and return its exit code; None if there is none, or if it does not die."""
        if self._process is None or self._connection is None:
            return None
        self._process.kill()
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        self._connection.close()
        self._process = self._connection = None
        return code

    def _start(self) -> None:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        ours, theirs = Pipe()
        # -P: no folder of the site's may stand in for a module of the package.
        module = ["-P", "-m", "fedgram.flare.process.worker"]
        command = [sys.executable, *module, str(theirs.fileno()), *self._arguments]
        with theirs, open(self._log, "ab") as output:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self._connection, self._is_up = ours, False  # now there is somebody at its other end
        self._heard = queue.SimpleQueue()
        threading.Thread(target=_receive, args=(self._connection, self._heard), daemon=True).start()


# A worker that hangs in the middle of a message would hang whoever sends or receives it: these threads do, and end
# with the worker.


def _send(connection: Connection, request: bytes) -> None:
    with suppress(OSError, TypeError):  # the worker has ended, or the connection: the other thread tells
        connection.send_bytes(request)


def _receive(connection: Connection, heard: queue.SimpleQueue[bytes | None]) -> None:
    """Pass on what the worker says, in the end None."""
    with suppress(EOFError, OSError, TypeError):
        while True:
            heard.put(connection.recv_bytes())
    heard.put(None)
