"""The supervisor of a site's worker process: the part that must not die, so it loads no model and reads no data.

FLARE 2.9.0 fails a whole job when one site's job process dies, as the out-of-memory killer makes it die. The
work therefore runs in a child of that process (:mod:`fedgram.flare.process.worker`). A worker that dies is started
again and asked again; a round begins from saved state, so the answer is the one it would have given.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
from collections.abc import Callable, Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

log = logging.getLogger("fedgram.supervisor")

_ATTEMPTS = 3
_POLL_SECONDS = 0.05


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
        self.restarts = 0

    def ask(self, task: str, *arguments: object, stopped: Callable[[], bool] = lambda: False) -> Any:
        """Ask the worker for its reply to a task of :data:`~fedgram.flare.process.worker.TASKS`.

        Raises:
            WorkerFailed: it reported an error, or died in each of three attempts.
            Stopped: ``stopped`` became true; the worker is ended, its saved state stays.
        """
        request = pickle.dumps((self._job, task, arguments))
        for _ in range(_ATTEMPTS):
            connection = self._connection or self._start()
            try:
                connection.send_bytes(request)
                while not connection.poll(_POLL_SECONDS):
                    if stopped():
                        self.close()
                        raise Stopped
                reply, kind = pickle.loads(connection.recv_bytes())
            except (EOFError, OSError):
                code = self.close()
                self.restarts += 1
                log.warning("the training process ended with code %s in task %r and is started again", code, task)
                continue
            if kind is not None:
                raise WorkerFailed(kind)
            return reply
        raise WorkerFailed("WorkerDied")

    def close(self) -> int | None:
        """End the worker and return its exit code."""
        if self._process is None or self._connection is None:
            return None
        self._process.kill()
        code = self._process.wait()
        self._connection.close()
        self._process = self._connection = None
        return code

    def _start(self) -> Connection:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        self._connection, theirs = Pipe()
        # -P: no folder of the site's may stand in for a module of the package.
        module = ["-P", "-m", "fedgram.flare.process.worker"]
        command = [sys.executable, *module, str(theirs.fileno()), *self._arguments]
        with theirs, open(self._log, "ab") as output:
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        return self._connection
