"""Checks of disk and memory: how much is free, and whether it is enough."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
from rich.filesize import decimal

from fedgram.checks.doctor.visit import Finding

SPARE = 2**30  # where nothing better is known
_CGROUP = Path("/sys/fs/cgroup")


def room(what: str, folder: Path, needed: int) -> Iterator[Finding]:
    """Check that a folder can be written, or made, with room on its disk. Nothing is written to find out."""
    existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        yield Finding(
            "failure",
            f"{what}: {existing} cannot be written by this user",
            f"make {folder} and give it to the user that runs FLARE, or name another folder",
        )
        return
    free = shutil.disk_usage(existing).free
    yield enough(f"{what} in {folder}", free, needed, "make room, or name a folder on another disk")


def free_memory() -> int:
    """Bytes of memory that a new process can have: the machine's, or the container's where that is less."""
    free = psutil.virtual_memory().available
    try:
        limit, used = ((_CGROUP / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return min(free, int(limit) - int(used))
    except (OSError, ValueError):  # no container, or one without a limit ("max")
        return free


def enough(what: str, free: int, needed: int, remedy: str) -> Finding:
    """Compare the free amount with the needed one; less than twice as much is a warning, as estimates are low."""
    text = f"{what}: {decimal(free)} free, {decimal(needed)} needed"
    if free < needed:
        return Finding("failure", text, remedy)
    return Finding("warning", text, remedy) if free < 2 * needed else Finding("ok", text)
