"""The process in which a site computes: a SiteSession that answers its supervisor over a socket.

It holds everything that is heavy or may die: torch models, native readers, the GPU. Whatever it prints goes to
the site's own log; what goes back is the reply of the session, or the kind of the error and nothing else.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fedgram import modalities
from fedgram.config.job import JobConfig
from fedgram.config.site import UNIFIED, find_site_config
from fedgram.config.state import state_folder
from fedgram.config.strict import from_dict
from fedgram.errors import ConfigError, FedgramError
from fedgram.flare.process.pulse import Pulse
from fedgram.flare.process.supervisor import BEAT
from fedgram.sites.opening import open_site
from fedgram.sites.secret import with_secret
from fedgram.training.masked.identity import find_identity
from fedgram.training.session import SiteSession

log = logging.getLogger("fedgram.worker")

LOST_DEVICE = 75  # the exit code of a process whose GPU has failed

TASKS: Mapping[str, Callable[..., Any]] = {
    "introduce": SiteSession.introduce,
    "train": SiteSession.train,
    "alone": SiteSession.alone,
    "evaluate": SiteSession.evaluate,
    "settle": SiteSession.settle,
    "mask_keys": SiteSession.mask_keys,
    "mask_shares": SiteSession.mask_shares,
    "masked": SiteSession.masked,
    "confirm": SiteSession.confirm,
    "reveal": SiteSession.reveal,
}


def open_session(name: str, local: Path, folder: Path, modality: str, job: JobConfig) -> SiteSession:
    """Open a session on the settings of the site's own file.

    Args:
        name: of the site.
        local: folder with the site file; in a masked job the site's certificate is in ``startup`` beside it.
        folder: of the state of all sites of this workspace, unless the site file names another.
        modality: that the job expects here.
        job: what to compute.

    Raises:
        ConfigError: the site file declares another modality.
        FedgramError: see :func:`~fedgram.sites.opening.open_site`.
    """
    config = find_site_config(local, name)
    declared = UNIFIED if config.modality == UNIFIED else modalities.load(config.modality).name
    if declared != modality:
        raise ConfigError(f"modality {declared!r}", where=name, expected=f"{modality!r} as in the job")
    own = state_folder(config.state, folder) / name
    identity = find_identity(local.parent / "startup") if job.aggregation.masked else None
    return SiteSession(open_site(name, with_secret(config, own), job), own, identity)


def serve(connection: Connection, open: Callable[[JobConfig], SiteSession]) -> None:
    """Answer requests ``(job, task, arguments)`` with ``(reply, None)`` or ``(None, kind of error)``, for ever.

    While an answer is on its way, empty messages are its signs of life.
    """
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, requests), daemon=True).start()
    pulse = Pulse(lambda: connection.send_bytes(BEAT))
    session: SiteSession | None = None
    while True:
        job, task, arguments = pickle.loads(requests.get())
        with pulse.working():
            try:
                session = session or open(from_dict(JobConfig, job, "task"))
                answer = (TASKS[task](session, *arguments), None)
            except FedgramError as error:
                log.error("%s: %s", type(error).__name__, error)
                answer = (None, type(error).__name__)
            except Exception as error:
                log.exception("task %r failed", task)
                if _has_lost_its_device(error):
                    os._exit(LOST_DEVICE)  # no call to it works any more in this process, and one may in the next
                answer = (None, type(error).__name__)
            message = pickle.dumps(answer)
        connection.send_bytes(message)


def _has_lost_its_device(error: Exception) -> bool:
    """Whether a GPU has failed, by what torch makes of it; too little memory is an error like any other."""
    return isinstance(error, RuntimeError) and str(error).startswith("CUDA error")


def _receive(connection: Connection, requests: queue.SimpleQueue[bytes]) -> None:
    """Pass requests on; once the supervisor is gone nobody waits for the answer, so this process ends too."""
    try:
        while True:
            requests.put(connection.recv_bytes())
    except (EOFError, OSError):
        os._exit(0)


def main(descriptor: str, name: str, local: str, folder: str, modality: str) -> None:
    """Run the process that :class:`~fedgram.flare.process.supervisor.Supervisor` starts."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with suppress(OSError):  # when memory runs out the kernel takes this process and not the one that speaks FLARE
        Path("/proc/self/oom_score_adj").write_text("500")
    connection = Connection(int(descriptor))
    serve(connection, lambda job: open_session(name, Path(local), Path(folder), modality, job))


if __name__ == "__main__":
    main(*sys.argv[1:])
