"""The command line: simulate or submit a job, report, use its result, check a site, make anchors."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from fedgram.cli import anchors, data, init, job, results
from fedgram.cli.console import console, plain_errors
from fedgram.errors import FedgramError

# Nothing here is compiled, and setting torch's compiler up is a third of the time in which PEFT is imported where
# bitsandbytes is installed.
os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.command()(init.init)
app.add_typer(anchors.app, name="anchors")
results.add_to(app)
app.add_typer(data.app, name="data")
app.add_typer(job.app, name="job")


@app.command()
def demo(
    out: Annotated[Path, typer.Argument(help="folder for job/ and workspace/")] = Path("fedgram-demo"),
    job: Annotated[
        str, typer.Option(help="few-labels, fedumm, fedumm-mixed, or a method over four sites: geodora …")
    ] = "few-labels",
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds, instead of the demo's")] = None,
) -> None:
    """Train a federation on data that come with the package, and compare it with staying at home.

    The same as `make demo`, from an installed package alone.
    """
    from fedgram.demo.files import site_files
    from fedgram.flare import jobs, workspace
    from fedgram.flare import simulate as simulation

    with plain_errors():
        jobs.write(jobs.build(job), out / "job", overwrite=True)
        workspace.write(out / "workspace", site_files(job))
        changes = {"training": {"rounds": rounds}} if rounds else {}
        simulation.run(out / "job", out / "workspace", console, changes=changes)


@app.command()
def simulate(
    job: Annotated[Path, typer.Argument(help="job folder, e.g. jobs/geodora")] = Path("job"),
    workspace: Annotated[
        Path, typer.Argument(help="has local/ with resources.json and the site files; fedgram init writes one")
    ] = Path("run"),
    rounds: Annotated[int | None, typer.Option(min=1, help="rounds, instead of the job's")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="optimiser steps of a site in a round")] = None,
    seed: Annotated[int | None, typer.Option(help="seed of everything random")] = None,
    baseline: Annotated[
        bool, typer.Option("--baseline/--no-baseline", help="also train every site alone, as the job says")
    ] = True,
    state: Annotated[
        Path | None, typer.Option(help="folder of the rounds that are done; WORKSPACE.state when absent")
    ] = None,
) -> None:
    """Run a job with `nvflare simulator`, show its progress, and report on it across modalities.

    Given again after an interruption, it goes on after the last round that was saved.
    """
    from fedgram.flare import simulate as simulation

    with plain_errors():
        training = {name: n for name, n in (("rounds", rounds), ("local_steps", steps)) if n is not None}
        changes = {
            **({"training": training} if training else {}),
            **({} if seed is None else {"seed": seed}),
            **({} if baseline else {"baseline": False}),
        }
        simulation.run(job, workspace, console, changes=changes, state=state)


@app.command()
def submit(
    job: Annotated[Path, typer.Argument(help="job folder, e.g. jobs/geodora")],
    startup_kit: Annotated[Path, typer.Option("--startup-kit", help="kit of an admin who may submit jobs")],
    results: Annotated[Path, typer.Option(help="folder for the results", file_okay=False)] = Path("results"),
    fresh: Annotated[bool, typer.Option("--fresh", help="forget its saved rounds, and begin again")] = False,
) -> None:
    """Run a job on a federation and fetch its results; repeat it after any failure, and the job goes on."""
    from fedgram.flare import submit as submission

    with plain_errors():
        submission.run(job, startup_kit, results, console, fresh)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="the server's result folder, with metrics.json")],
    sites: Annotated[list[Path] | None, typer.Argument(help="result folders of sites, to compare samples")] = None,
) -> None:
    """Print the report of a run; with site results at hand also retrieval between their test samples."""
    from fedgram.results import crossreport
    from fedgram.results.report import print_report

    with plain_errors():
        path = results / "metrics.json"
        if not path.is_file():
            raise FedgramError("no metrics.json", where=results, remedy="name the server's result folder")
        print_report(json.loads(path.read_text()), console)
        if sites:
            crossreport.write(sites, results, console)


@app.command()
def doctor(
    kit: Annotated[Path, typer.Argument(help="startup kit of a site or the server, with local/ and startup/")],
    job: Annotated[Path | None, typer.Option(help="folder of a job that was announced, e.g. jobs/geodora")] = None,
) -> None:
    """Check a site or the server before a job arrives, and print what will leave the site.

    Reads only: safe while the client runs. Exit code 1 when anything fails.
    """
    with plain_errors():
        from fedgram.checks import doctor as clinic
        from fedgram.checks.doctor.show import print_findings, print_outbound
        from fedgram.checks.finding import any_failed

        visit = clinic.visit(kit, job)
        with console.status("looking around"):
            findings = list(clinic.examine(visit))
        print_findings(visit, findings, console)
        if visit.kit.side == "client":
            print_outbound(visit, console)
        if any_failed(finding for _, finding in findings):
            raise typer.Exit(1)
