"""The server's state on disk: one file, written atomically after every round, enough to go on from."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open

from fedgram.config.job import JobConfig
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors
from fedgram.training.codec import pack, unpack
from fedgram.training.server import ServerState

_FILE = "server.safetensors"
_FORMAT = 2  # counts up whenever a record that is part of the state gets other fields


def save(folder: Path, state: ServerState, job: JobConfig) -> None:
    """Replace the saved state; a crash or a full disk leaves the last good one intact.

    Raises:
        CheckpointError: it cannot be written.
    """
    tensors, facts = pack(state)
    saved = {"format": _FORMAT, "job": job.fingerprint(), "facts": facts}
    write_tensors(folder / _FILE, tensors, {"fedgram": json.dumps(saved)})


def load(folder: Path, job: JobConfig) -> ServerState | None:
    """The state saved by an unfinished run of the same job, or None.

    Raises:
        CheckpointError: the file is damaged, or belongs to another version or to a job with other settings.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    error = partial(CheckpointError, where=path, remedy="delete it to start afresh")
    try:
        with safe_open(path, framework="pt") as file:
            saved = json.loads(file.metadata()["fedgram"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
        version, fingerprint, facts = saved.get("format"), saved.get("job"), saved.get("facts")
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, AttributeError) as fault:
        raise error(f"damaged ({fault})") from fault
    if version != _FORMAT:
        raise error("saved by another version of fedgram", expected=f"format {_FORMAT}")
    if fingerprint != job.fingerprint():
        raise error("saved by a job with other settings")
    return unpack(ServerState, tensors, facts, error)


def finish(folder: Path) -> None:
    """Forget the saved state of a run that has completed."""
    (folder / _FILE).unlink(missing_ok=True)
