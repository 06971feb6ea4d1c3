"""What the commands of :mod:`fedgram.cli.main` share. Heavy imports belong inside a command: `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.console import Console

from fedgram.errors import FedgramError

console = Console(width=None if sys.stdout.isatty() else 120)


def notes() -> Console:
    """Where words go when the output is for a program: standard error."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 120)


@contextmanager
def plain_errors() -> Iterator[None]:
    """A fedgram error is a message and exit code 1, not a traceback."""
    try:
        yield
    except FedgramError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red] ", end="")
        Console(stderr=True).print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
