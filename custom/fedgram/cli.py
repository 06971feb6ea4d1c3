"""The command line: simulate or submit a job, report, ask across modalities, check a site, make anchor sets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from fedgram.commands import anchors, console, data, plain_errors
from fedgram.errors import FedgramError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
app.add_typer(anchors.app, name="anchors")
app.add_typer(data.app, name="data")


@app.command()
def simulate(
    job: Annotated[Path, typer.Argument(help="job folder, e.g. jobs/geodora")],
    workspace: Annotated[Path, typer.Argument(help="has local/ with resources.json and the site files")],
) -> None:
    """Run a job with `nvflare simulator`, show its progress, and report on it across modalities."""
    from fedgram import simulate as simulation

    with plain_errors():
        simulation.run(job, workspace, console)


@app.command()
def submit(
    job: Annotated[Path, typer.Argument(help="job folder, e.g. jobs/geodora")],
    startup_kit: Annotated[Path, typer.Option("--startup-kit", help="kit of an admin who may submit jobs")],
    results: Annotated[Path, typer.Option(help="folder for the results")] = Path("results"),
) -> None:
    """Run a job on a federation and fetch its results; repeat it after any failure, and the job goes on."""
    from fedgram.flare import submit as submission

    with plain_errors():
        submission.run(job, startup_kit, results, console)


@app.command()
def report(
    results: Annotated[Path, typer.Argument(help="the server's result folder, with metrics.json")],
    sites: Annotated[list[Path] | None, typer.Argument(help="result folders of sites, to compare samples")] = None,
) -> None:
    """Print the report of a run; with site results at hand also retrieval between their test samples."""
    from fedgram import crossreport
    from fedgram.report import print_report

    with plain_errors():
        path = results / "metrics.json"
        if not path.is_file():
            raise FedgramError("no metrics.json", where=results, remedy="name the server's result folder")
        print_report(json.loads(path.read_text()), console)
        if sites:
            crossreport.write(sites, results, console)


@app.command()
def retrieve(
    query: Annotated[Path, typer.Argument(help="result folder of the site whose modality asks")],
    gallery: Annotated[Path, typer.Argument(help="result folder of the site whose test samples answer")],
    files: Annotated[list[Path], typer.Argument(help="files of the asking modality")],
    k: Annotated[int, typer.Option("-k", min=1, help="answers for each file")] = 5,
) -> None:
    """Find samples of another modality, in anchor coordinates."""
    from fedgram import crossmodal

    with plain_errors():
        site = crossmodal.load(query)
        contents = [site.modality.read_anchor(file) for file in files]
        for file, matches in zip(
            files, crossmodal.retrieve(site, contents, crossmodal.load(gallery), k), strict=True
        ):
            table = Table("rank", "sample", "concept", "similarity", title=str(file))
            for rank, match in enumerate(matches, start=1):
                table.add_row(str(rank), match.id, match.concept, f"{match.similarity:.3f}")
            console.print(table)


@app.command()
def classify(
    query: Annotated[Path, typer.Argument(help="result folder of the site whose modality asks")],
    teacher: Annotated[Path, typer.Argument(help="result folder of the site whose labels answer")],
    files: Annotated[list[Path], typer.Argument(help="files of the asking modality")],
) -> None:
    """Name the concept of a sample by the labels of a site of another modality."""
    from fedgram import crossmodal

    with plain_errors():
        site = crossmodal.load(query)
        contents = [site.modality.read_anchor(file) for file in files]
        table = Table("file", "concept", "similarity")
        for file, match in zip(files, crossmodal.classify(site, contents, crossmodal.load(teacher)), strict=True):
            table.add_row(str(file), match.concept, f"{match.similarity:.3f}")
        console.print(table)


@app.command()
def doctor(
    kit: Annotated[Path, typer.Argument(help="startup kit of a site or the server, with local/ and startup/")],
    job: Annotated[Path | None, typer.Option(help="folder of a job that was announced, e.g. jobs/geodora")] = None,
) -> None:
    """Check a site or the server before a job arrives, and print what will leave the site.

    Reads only: safe while the client runs. Exit code 1 when anything fails.
    """
    with plain_errors():
        from fedgram import doctor as clinic
        from fedgram.doctor.show import print_findings, print_outbound

        visit = clinic.visit(kit, job)
        with console.status("looking around"):
            findings = list(clinic.examine(visit))
        print_findings(visit, findings, console)
        if visit.kit.side == "client":
            print_outbound(visit, console)
        if any(finding.level == "failure" for _, finding in findings):
            raise typer.Exit(1)
