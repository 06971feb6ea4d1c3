"""Checks of a site's own data, as fedgram understands them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedgram.cli.console import console, plain_errors

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.callback()
def _group() -> None:
    """Keep the name of the only command."""


@app.command()
def check(
    site_file: Annotated[Path, typer.Argument(help="the site's own file, e.g. local/fedgram.toml")],
    job: Annotated[Path | None, typer.Option(help="a job's folder: open the site for it, model and all")] = None,
) -> None:
    """Show what was understood: classes or answers, splits, columns, the first samples; warn of what may be wrong.

    Ends with 1 if training would not start: for the data, or with --job for anything at all.
    """
    from fedgram.checks import data as datacheck
    from fedgram.checks.data import unified
    from fedgram.checks.data.show import show
    from fedgram.config.site import read_site_config

    with plain_errors():
        if read_site_config(site_file).unified is not None:
            found = unified.check(site_file, job)
            unified.show(found, console)
        else:
            found = datacheck.check(site_file, job)
            show(found, console)
        if found.failed:
            raise typer.Exit(1)
