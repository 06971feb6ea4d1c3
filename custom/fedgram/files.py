"""Files that cannot lie: written whole or not at all, and tensors under a checksum that every reader verifies."""

from __future__ import annotations

import fcntl
import json
import os
import stat
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedgram.errors import CheckpointError, FedgramError

_SMALL = 64 * 2**20
_CHECKSUM = "sha256"  # in a file's metadata, of all else that is in the file


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
    """Write a safetensors file atomically, with a checksum that :func:`read_tensors` verifies.

    Raises:
        CheckpointError: it cannot be written; an older file in its place is intact.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    stated = dict(metadata or {})
    stated[_CHECKSUM] = checksum(plain, stated)
    with _writing(path):
        write_atomically(path, lambda part: save_file(plain, part, metadata=stated))


def append(path: Path, lines: bytes) -> None:
    """Add to the end of a file and wait until it is on disk; a crash may leave a part of what was added.

    Raises:
        CheckpointError: it cannot be written; what was there before is intact.
    """
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab") as file:
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def _writing(path: Path) -> Generator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"cannot be written ({error})",
            where=path,
            remedy="free disk space or mend rights, then run the job again: it goes on after the last round saved",
        ) from error


def read_tensors(path: Path, remedy: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the metadata that :func:`write_tensors` wrote; not one bit may have changed since.

    Raises:
        CheckpointError: the file cannot be read, is incomplete or was changed; ``remedy`` says what to do.
    """
    if path.exists() and not path.is_file():  # whoever opens a pipe waits for ever
        raise CheckpointError("damaged (not a file)", where=path, remedy=remedy)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CheckpointError(f"damaged ({error})", where=path, remedy=remedy) from error
    stated = metadata.pop(_CHECKSUM, None)
    if stated != checksum(tensors, metadata):
        why = "no checksum: by fedgram 0.1?" if stated is None else "its checksum does not fit"
        raise CheckpointError(f"damaged ({why})", where=path, remedy=remedy)
    return tensors, metadata


def checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The sha256 over the names, dtypes, shapes and bytes of the tensors, and over the metadata."""
    parts = [(name, str(tensors[name].dtype), list(tensors[name].shape)) for name in sorted(tensors)]
    digest = sha256(json.dumps([parts, sorted(metadata.items())]).encode())
    for name in sorted(tensors):
        digest.update(tensors[name].contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_small(path: Path, error: type[FedgramError]) -> bytes:
    """The bytes of a file of settings; whatever else can stand in its place is an error, and none of it is read.

    Raises:
        FedgramError: of kind ``error``: not a regular file (a pipe may never end), too large, or unreadable.
    """
    try:
        regular = stat.S_ISREG(os.stat(path).st_mode)
        with open(path if regular else os.devnull, "rb") as file:
            content = file.read(_SMALL + 1)
    except (OSError, ValueError) as fault:  # an odd name is a ValueError
        raise error(f"cannot be read ({type(fault).__name__})", where=repr(str(path))) from None
    if not regular or len(content) > _SMALL:
        problem = "not a file" if not regular else f"more than {_SMALL >> 20} MiB"
        raise error(problem, where=path, expected="a small file of text", remedy="correct the path, or the file")
    return content


@contextmanager
def exclusively(path: Path) -> Generator[None]:
    """Hold a lock, which no other process then has.

    Args:
        path: of the lock, an empty file.

    Raises:
        CheckpointError: it cannot be had.
    """
    with ExitStack() as held:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(open(path, "ab"))
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            remedy = "keep the site's state (`state`) on a file system that has locks"
            raise CheckpointError(f"no lock ({error})", where=path, remedy=remedy) from error
        yield


def try_lock(path: Path) -> Callable[[], None] | None:
    """Take a lock, and return what gives it back, as the end of this process does; None while another has it.

    Where a file system has no locks, everybody gets it.

    Args:
        path: of the lock, an empty file.

    Raises:
        CheckpointError: it cannot be written.
    """
    with _writing(path), ExitStack() as held:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = held.enter_context(open(path, "ab"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                return None
        return held.pop_all().close


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))
