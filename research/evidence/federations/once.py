"""Folders that are written once, whoever comes first, never seen half-written, and named by what is in them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path


def once(target: Path, write: Callable[[Path], object]) -> Path:
    """Write ``target`` in a temporary folder and move it into place, unless it is there; returns it.

    Args:
        write: is given a path that does not exist yet.
    """
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".writing-") as temporary:
        fresh = Path(temporary, target.name)
        write(fresh)
        try:
            os.rename(fresh, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was first
                raise
            shutil.rmtree(fresh)
    return target


def digest(parts: Iterable[object]) -> str:
    """A short name for some content, so that a folder of other content never stands for it."""
    found = sha256()
    for part in parts:
        found.update(repr(part).encode())
    return found.hexdigest()[:12]
