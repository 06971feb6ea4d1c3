"""A run of ``nvflare simulator``, with its progress made readable and its results made visible."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rich.console import Console

from fedgram.config import jobfolder
from fedgram.config.job import JobConfig
from fedgram.config.jobfolder import client_names
from fedgram.config.server import read_server_config
from fedgram.config.site import UNIFIED, SiteConfig
from fedgram.config.state import VARIABLE
from fedgram.config.strict import from_dict
from fedgram.errors import RoundFailed
from fedgram.files import write_text
from fedgram.flare import footprint, jobs, workspace
from fedgram.flare.commandline import require_whole
from fedgram.flare.progress import MARK
from fedgram.methods import method_of
from fedgram.results import crossreport
from fedgram.results import unified_report as report
from fedgram.results.report import print_report
from fedgram.sites.kept import read_facts

_TROUBLE = re.compile(r" - (ERROR|CRITICAL) - ")
_OWN = ("result", "alone")  # folders that a site leaves, in its state


@dataclass(frozen=True)
class Simulation:
    """A job in a workspace, and the place of its state, which outlives an interruption.

    Attributes:
        job: the job folder, with changed settings in it.
        place: the workspace, which the simulator empties but for ``local/``.
        state: the folder of the rounds saved so far, outside the workspace.
        sites: the settings of the job's sites, by name.
        settings: of the job.
    """

    job: Path
    place: Path
    state: Path
    sites: Mapping[str, SiteConfig]
    settings: JobConfig

    @property
    def log(self) -> Path:
        """The file that takes all that the simulator prints."""
        return self.place.parent / f"{self.place.name}.log"

    @property
    def results(self) -> Path:
        """The server's results."""
        return self.place / "server" / "simulate_job" / "fedgram"

    def left_by(self, site: str) -> Path:
        """The folder in which a site's result and its model of training alone are when the run has ended."""
        own = self.sites[site].state
        return Path(own) / site if own else self.place / site / "fedgram" / site


def run(
    job: Path,
    place: Path,
    console: Console,
    *,
    changes: Mapping[str, Any] | None = None,
    state: Path | None = None,
) -> Path:
    """Run a job folder in a prepared workspace and report on it; an interrupted run goes on where it was.

    Everything that the simulator prints goes to ``<workspace>.log``; fedgram's own lines and errors are shown. The
    rounds that are done lie in a folder beside the workspace until the run has ended.

    Args:
        job: the job folder.
        place: the workspace.
        changes: settings of the job that are other than in its folder, as plain data.
        state: folder of the rounds that are done; ``<workspace>.state`` when absent, which goes when the run ends.

    Returns:
        The server's results.

    Raises:
        ConfigError: job or workspace is not what it should be, or they do not fit each other.
        AnchorError: a site has other anchors than the job.
        RoundFailed: the run ended without results.
    """
    client_names(job)
    require_whole(place)
    with TemporaryDirectory(prefix="fedgram-") as folder:
        job = _changed(job, changes, Path(folder, job.resolve().name)) if changes else job
        settings = from_dict(JobConfig, jobfolder.settings_in(jobfolder.read_server(job)), str(job))
        method_of(settings)
        sites = workspace.require_fit(job, place, settings)
        kept = (state or place.parent / f"{place.name}.state").resolve()
        simulation = Simulation(job=job, place=place, state=kept, sites=sites, settings=settings)
        _announce(simulation, console)
        _watch(simulation, console)
    for name in sites:
        _show_errors(place / name / "fedgram" / name / "log.txt", console)
    if not (simulation.results / "report.png").is_file():
        raise RoundFailed(
            "the run ended without a report",
            where=job,
            remedy=f"see {simulation.log}; given again, the command goes on after the last round",
        )
    _publish(simulation, forget=state is None)
    _report(simulation, console)
    return simulation.results


def _changed(job: Path, changes: Mapping[str, Any], copy: Path) -> Path:
    """A copy of a job folder with other settings.

    Raises:
        ConfigError: not a job of fedgram, or settings that it cannot have.
    """
    folder = {jobfolder.SERVER: jobfolder.read_server(job), jobfolder.META: {"name": str(job)}}
    jobs.change(folder, changes)
    shutil.copytree(job, copy)
    write_text(copy / jobfolder.SERVER, json.dumps(folder[jobfolder.SERVER], indent=2) + "\n")
    return copy


def _announce(simulation: Simulation, console: Console) -> None:
    """Say what is started, how many processes it takes and about how much memory, and who is left out."""
    idle = sorted(set(workspace.site_names(simulation.place)) - set(simulation.sites))
    if idle:
        text = f"{', '.join(idle)}: a site file, and no place in deploy_map; not part of this run"
        console.print(text, style="yellow", markup=False, soft_wrap=True)
    training = simulation.settings.training
    console.print(
        f"{len(simulation.sites)} sites, {training.rounds} rounds of {training.local_steps} steps"
        f"{', and as many alone' if simulation.settings.baseline else ''}; "
        f"{footprint.told(simulation.sites, simulation.settings)}",
        markup=False,
        soft_wrap=True,
    )
    console.print(
        f"rounds are saved in {simulation.state}: given again, this command goes on there", soft_wrap=True
    )


def _watch(simulation: Simulation, console: Console) -> None:
    """Let the simulator run, record what it prints, and show fedgram's lines and whatever is an error."""
    threads = str(len(simulation.sites))
    command = ["-m", "nvflare.cli", "simulator", "-w", str(simulation.place), "-t", threads, str(simulation.job)]
    console.print(f"{' '.join(command[1:])}\n", markup=False, highlight=False)
    with (
        open(simulation.log, "w") as record,
        subprocess.Popen(
            [sys.executable, *command],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, VARIABLE: str(simulation.state)},
        ) as process,
    ):
        for line in process.stdout or ():
            record.write(line)
            record.flush()
            if MARK in line:
                console.print(line[line.index(MARK) + len(MARK) :].strip(), markup=False, soft_wrap=True)
            elif _TROUBLE.search(line):
                console.print(line.strip(), style="red", markup=False, soft_wrap=True)


def _publish(simulation: Simulation, *, forget: bool) -> None:
    """Put what sites have left into the workspace, where it is looked for; the saved rounds may then go.

    They stay where another job of this workspace, one with other settings, is not done.
    """
    for name in simulation.sites:
        left, saved = simulation.left_by(name), simulation.state / name
        for part in _OWN:
            if (saved / part).is_dir() and left != saved:
                shutil.rmtree(left / part, ignore_errors=True)
                shutil.copytree(saved / part, left / part)
    own = read_server_config(simulation.place / "local" / "fedgram" / "server.toml").state
    if forget and not own and not [*simulation.state.glob("*/server.safetensors")]:
        shutil.rmtree(simulation.state, ignore_errors=True)


def _report(simulation: Simulation, console: Console) -> None:
    results = simulation.results
    _compare([simulation.left_by(name) / "result" for name in simulation.sites], results, console)
    print_report(json.loads((results / "metrics.json").read_text()), console)
    figures = [results / name for name in ("report.html", "report.png", "crossmodal.png", "unified.png")]
    shown = ", ".join(str(figure) for figure in figures if figure.is_file())
    console.print(f"\nresults   {results}\nfigures   {shown}\nlog       {simulation.log}")


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
