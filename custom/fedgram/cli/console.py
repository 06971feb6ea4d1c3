"""The console and the plain errors that all commands share.

Heavy imports belong inside a command: `--help` is quick."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer
from rich.console import Console

from fedgram.errors import FedgramError

console = Console(width=None if sys.stdout.isatty() else 120)


def notes() -> Console:
    """The console on standard error, for words beside an output that is for a program."""
    return Console(stderr=True, width=None if sys.stderr.isatty() else 120)


@contextmanager
def plain_errors() -> Generator[None]:
    """Turn a fedgram error into a message and exit code 1, instead of a traceback."""
    try:
        yield
    except FedgramError as error:
        Console(stderr=True).print(f"[red]{type(error).__name__}[/red] ", end="")
        Console(stderr=True).print(str(error), markup=False, soft_wrap=True)
        raise typer.Exit(1) from None
