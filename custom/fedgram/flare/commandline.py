"""The paths that FLARE 2.9.0 can start a process with: it writes its command as one line and splits that again."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from fedgram.errors import ConfigError


def require_whole(folder: Path) -> None:
    """Require that nothing in such a line comes apart: the folder that a job runs in, and Python.

    Raises:
        ConfigError: a blank, a quotation mark, a backslash or a ``#`` in its name.
    """
    for path in (str(folder.absolute()), sys.executable):
        if not _is_whole(path):
            raise ConfigError(
                "FLARE starts no process with such a name",
                where=path,
                expected="no blank, quotation mark, backslash or #",
                remedy="move it to a folder without them, or rename the folders above it",
            )


def _is_whole(path: str) -> bool:
    try:
        return shlex.split(path, comments=True) == [path]
    except ValueError:  # a quotation mark without its partner
        return False
