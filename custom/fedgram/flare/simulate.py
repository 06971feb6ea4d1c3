"""A run of ``nvflare simulator``, with its progress made readable and its results made visible."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

from rich.console import Console

from fedgram.config.jobfolder import client_names
from fedgram.config.site import UNIFIED
from fedgram.errors import ConfigError, RoundFailed
from fedgram.flare.progress import MARK
from fedgram.results import crossreport
from fedgram.results import unified_report as report
from fedgram.results.report import print_report
from fedgram.sites.kept import read_facts

_TROUBLE = re.compile(r" - (ERROR|CRITICAL) - ")


def run(job: Path, workspace: Path, console: Console) -> None:
    """Run a job folder in a prepared workspace and report on it.

    Everything that the simulator prints goes to ``simulator.log`` in the workspace; fedgram's own lines and
    errors are shown.

    Raises:
        ConfigError: job or workspace is not what it should be.
        RoundFailed: the run ended without results.
    """
    clients = client_names(job)
    if not (workspace / "local" / "resources.json").is_file():
        raise ConfigError(
            "no local/resources.json",
            where=workspace,
            expected="an allow-list and the site files, as in provisioning/simulator",
            remedy=f"cp -r provisioning/simulator/local {workspace}/",
        )
    command = [
        sys.executable,
        "-m",
        "nvflare.cli",
        "simulator",
        "-w",
        str(workspace),
        "-t",
        str(len(clients)),
        str(job),
    ]
    console.print(f"{' '.join(command[2:])}\n", markup=False, highlight=False)
    log = workspace.parent / f"{workspace.name}.log"
    with (
        open(log, "w") as record,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
    ):
        for line in process.stdout or ():
            record.write(line)
            if MARK in line:
                console.print(line[line.index(MARK) + len(MARK) :].strip(), markup=False, soft_wrap=True)
            elif _TROUBLE.search(line):
                console.print(line.strip(), style="red", markup=False, soft_wrap=True)
    for site in clients:
        _show_errors(workspace / site / "fedgram" / site / "log.txt", console)
    results = workspace / "server" / "simulate_job" / "fedgram"
    if not (results / "report.png").is_file():
        raise RoundFailed("the run ended without a report", where=job, remedy=f"see {log}")
    _compare([workspace / name / "fedgram" / name / "result" for name in clients], results, console)
    print_report(json.loads((results / "metrics.json").read_text()), console)
    figures = [results / name for name in ("report.png", "crossmodal.png", "unified.png")]
    shown = ", ".join(str(figure) for figure in figures if figure.is_file())
    console.print(f"\nresults   {results}\nfigures   {shown}\nlog       {log}")


def _compare(folders: list[Path], results: Path, console: Console) -> None:
    """Compare the results of sites side by side: those of one modality, and unified ones before and after."""
    facts = {folder: read_facts(folder)[0] for folder in folders if (folder / "site.json").is_file()}
    unified = [folder for folder, found in facts.items() if found["site_config"]["modality"] == UNIFIED]
    others = [folder for folder in folders if folder not in unified]
    if len(others) > 1:
        crossreport.write(others, results, console)
    if unified:
        report.write(unified, results, console)


def _show_errors(log: Path, console: Console) -> None:
    """Show errors of a site: the text never leaves it, but here all sites are one machine."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    first = next((number for number, line in enumerate(lines) if " ERROR " in line), None)
    if first is not None:
        console.print(f"{log}:", style="red", markup=False, soft_wrap=True)
        console.print("\n".join(lines[first : first + 20]), markup=False, soft_wrap=True)
