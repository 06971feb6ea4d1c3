"""A disk cache of what a unified model's frozen parts make of pictures, mapped into memory.

With Janus-Pro-1B it is 2.4 MB a picture: some thousand pictures fit on a disk, and not into memory.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL.Image import Image
from torch import Tensor

from fedgram.data.pixels import Picture, open_image
from fedgram.errors import CheckpointError
from fedgram.files import append

log = logging.getLogger("fedgram.site")

FOLDER = "seen"  # in the site's cache
BATCH = 32  # pictures at a time through the frozen parts
_FORMAT = 1  # raise it when the meaning of what is stored changes
_DISK = "make room on the disk, or name another folder as cache in the site file"
Notes = Mapping[int, Mapping[str, Any]]


def in_batches(what: Callable[[Sequence[Image]], Tensor], pictures: Sequence[Picture]) -> Tensor:
    """The output of a frozen part for pictures, opened a batch at a time, on the CPU; empty for none."""
    parts = [what(_opened(pictures, start)).cpu() for start in range(0, len(pictures), BATCH)]
    return torch.cat(parts) if parts else torch.empty(0)


def mapped(
    what: Callable[[Sequence[Image]], Tensor], pictures: Sequence[Picture], identity: str, folder: Path
) -> Tensor:
    """The output of a frozen part for pictures, from the cache where it is there; only rows in use take memory.

    A batch is noted, with its checksum, after its bytes are on disk. What is not noted, because a process was
    killed, or does not fit its note, because a file was damaged, is computed again, and nothing else. Two
    processes with the same pictures write the same bytes to the same places.

    Args:
        what: the part, deterministic; float32 or int64 of one shape for every picture.
        identity: of the part: its weights, its precision, and how it reads a picture.
        folder: the site's cache.

    Raises:
        CheckpointError: the cache cannot be written.
        DataError: a picture cannot be read.
    """
    if not pictures:
        return torch.empty(0)
    path = folder / FOLDER / _key(pictures, identity)
    notes = _notes(path.with_suffix(".jsonl"))
    starts = range(0, len(pictures), BATCH)
    absent = [start for start in starts if not _fits(path, notes.get(start), min(BATCH, len(pictures) - start))]
    if absent:
        log.info("%d of %d pictures are not in the cache", len(absent) * BATCH, len(pictures))
    for start in absent:
        values = what(_opened(pictures, start)).cpu().contiguous().numpy()
        notes = {**notes, start: _write(path, start, values)}
    shape, dtype = (len(pictures), *notes[0]["shape"][1:]), np.dtype(notes[0]["dtype"])
    return torch.from_numpy(np.memmap(path, dtype, "c", shape=shape))  # "c": nothing is written back


def _key(pictures: Sequence[Picture], identity: str) -> str:
    contents = [sha256(picture.fingerprint()).hexdigest() for picture in pictures]
    return sha256(json.dumps([_FORMAT, identity, contents]).encode()).hexdigest()


def _opened(pictures: Sequence[Picture], start: int) -> list[Image]:
    return [open_image(picture) for picture in pictures[start : start + BATCH]]


def _notes(path: Path) -> Notes:
    """The notes on batches by their first row, the last of each; a line that was cut short is none."""
    return {note["start"]: note for note in _lines(path)} if path.is_file() else {}


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            note = json.loads(line)
            yield {name: note[name] for name in ("start", "shape", "dtype", "sha256")}
        except (ValueError, TypeError, KeyError):
            log.warning("a line of %s is damaged: its pictures are looked at again", path)


def _fits(path: Path, note: Mapping[str, Any] | None, rows: int) -> bool:
    """Whether the bytes of a batch are on disk as they were noted."""
    if note is None or note["shape"][0] != rows or not path.is_file():
        return False
    size = int(np.prod(note["shape"])) * np.dtype(note["dtype"]).itemsize
    with open(path, "rb") as file:
        file.seek(note["start"] * size // rows)
        return sha256(file.read(size)).hexdigest() == note["sha256"]


def _write(path: Path, start: int, values: np.ndarray) -> Mapping[str, Any]:
    """Write the rows of a batch at their place, wait for the disk, and note them."""
    content = values.tobytes()
    note = {
        "start": start,
        "shape": values.shape,
        "dtype": str(values.dtype),
        "sha256": sha256(content).hexdigest(),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        with open(path, "r+b") as file:
            file.seek(start * len(content) // len(values))
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise CheckpointError(f"cannot be written ({error})", where=path, remedy=_DISK) from error
    append(path.with_suffix(".jsonl"), json.dumps(note).encode() + b"\n")
    return note
