"""Job folders for any method."""

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
def write(
    name: Annotated[str, typer.Argument(help="geodora, geolora, fedit …, or package.module:Class")],
    out: Annotated[Path, typer.Argument(help="new job folder")],
    template: Annotated[
        Path | None, typer.Option("--from", help="job of geodora with the sites; the demo's when absent")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="overwrite a job folder")] = False,
) -> None:
    """Write the job folder of a method: its settings, over the demo's sites or those of another job."""
    from fedgram.config import jobfolder
    from fedgram.flare import jobs
    from fedgram.methods import METHODS

    with plain_errors():
        folder = jobs.build(name, template)
        jobs.write(folder, out, overwrite=force)
        method = jobfolder.settings_in(folder[jobfolder.SERVER]).get("method", {}).get("name", "geo")
        who = "sites and server run" if method not in METHODS else "sites run"
        console.print(f'written to {out}; {who} it where methods in their own file has "{method}"', markup=False)
        console.print(f"next: fedgram simulate {out} WORKSPACE", markup=False, soft_wrap=True)
