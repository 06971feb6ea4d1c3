"""Atomic writing of files: a crash or a full disk leaves the old file or the new one, never half of one."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from fedgram.errors import CheckpointError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file by letting ``write`` fill a temporary one beside ``path``, which then takes its place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")  # nobody else writes to this one
    try:
        write(part)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a safetensors file atomically.

    Raises:
        CheckpointError: it cannot be written; an older file in its place is intact.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    try:
        write_atomically(path, lambda part: save_file(plain, part, metadata=dict(metadata or {})))
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot be written ({error})",
            where=path,
            remedy="free disk space or mend rights, then run the job again: it goes on after the last round saved",
        ) from error


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
