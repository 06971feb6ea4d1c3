"""The server's state on disk: one file, written atomically after every round, enough to go on from."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from fedgram.config.job import JobConfig
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors
from fedgram.records import GlobalState, ModelSpec, RoundRecord, below
from fedgram.training.server import ServerState

_FILE = "server.safetensors"


def save(folder: Path, state: ServerState, job: JobConfig) -> None:
    """Replace the saved state; a crash or a full disk leaves the last good one intact.

    Raises:
        CheckpointError: it cannot be written.
    """
    shared = state.state
    tensors = {f"B/{k}": v for k, v in shared.B.items()}
    tensors |= {f"m/{k}": v for k, v in shared.m.items()}
    tensors |= {f"extra/{k}": v for k, v in shared.extra.items()}
    tensors |= {f"moments/{k}": v for k, v in state.moments.items()}
    facts = {
        "run": state.run,
        "round": shared.round,
        "anchors_sha256": shared.anchors_sha256,
        "spec": dataclasses.asdict(state.spec),
        "refused": list(state.refused),
        "modalities": dict(state.modalities),
        "records": [dataclasses.asdict(r) for r in state.records],
        "job": job.fingerprint(),
    }
    write_tensors(folder / _FILE, {**tensors, "consensus": shared.consensus}, {"fedgram": json.dumps(facts)})


def load(folder: Path, job: JobConfig) -> ServerState | None:
    """The state saved by an unfinished run of the same job, or None.

    Raises:
        CheckpointError: the file is damaged or belongs to a job with other settings.
    """
    path = folder / _FILE
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads(file.metadata()["fedgram"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, KeyError, ValueError, TypeError) as error:
        raise CheckpointError(f"damaged ({error})", where=path, remedy="delete it to start afresh") from error
    if facts["job"] != job.fingerprint():
        raise CheckpointError("saved by a job with other settings", where=path, remedy="delete it to start afresh")
    shapes = {k: tuple(v) for k, v in facts["spec"]["shapes"].items()}
    spec = ModelSpec(shapes=shapes, backbone=facts["spec"]["backbone"], width=facts["spec"]["width"])
    shared = GlobalState(
        round=facts["round"],
        anchors_sha256=facts["anchors_sha256"],
        backbone=spec.backbone,
        B=below("B/", tensors),
        m=below("m/", tensors),
        consensus=tensors["consensus"],
        extra=below("extra/", tensors),
    )
    records = tuple(_record(r) for r in facts["records"])
    return ServerState(
        run=facts["run"],
        state=shared,
        moments=below("moments/", tensors),
        spec=spec,
        modalities=facts["modalities"],
        refused=tuple(facts["refused"]),
        records=records,
    )


def finish(folder: Path) -> None:
    """Forget the saved state of a run that has completed."""
    (folder / _FILE).unlink(missing_ok=True)


def _record(plain: dict[str, Any]) -> RoundRecord:
    return RoundRecord(**{**plain, "missing": tuple(plain["missing"])})
