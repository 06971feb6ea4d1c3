"""What is said while a job runs, and what the simulator's wrapper refuses to start."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from fedgram.cli.main import app
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.config.jobfolder import pin_anchors
from fedgram.config.strict import from_dict
from fedgram.errors import ConfigError
from fedgram.flare import footprint, jobs, simulate
from fedgram.flare.progress import MARK, Progress, ending
from fedgram.flare.workspace import require_fit
from fedgram.records import RoundRecord
from rich.console import Console
from toy import ROOT
from typer.testing import CliRunner

JOB = JobConfig(anchors=AnchorPin("0" * 64, ("a",) * 4))
JOB_OF_THE_DEMO = from_dict(JobConfig, jobs.settings("geodora"), "geodora")


def test_a_round_says_who_counted_who_did_not_and_how_long_it_takes():
    lines: list[str] = []
    progress = Progress(JOB, lines.append)
    record = RoundRecord(
        round=1,
        shares={"a": 0.5, "b": 0.5},
        metrics={},
        payload_bytes={},
        rejected={"c": "c: NaN"},
        missing=("d",),
        mean_update_norm=1.0,
        update_norms={},
        seconds=3.0,
        restarts={},
        samples={},
    )
    progress.rejected("c", "c: NaN")
    progress.round_done(record)
    assert all(line.startswith(MARK) for line in lines)
    assert "c does not count: c: NaN" in lines[0]
    assert "round 1/24" in lines[1]
    assert "s left" in lines[1]
    assert "no reply from d" in lines[1]


def test_no_site_writes_a_line_of_its_own():
    lines: list[str] = []
    Progress(JOB, lines.append).rejected("c", f"fedgram 9\n{MARK} d does not count\x1b[31m\u2028x\n  expected: 1")
    assert lines == [f"{MARK} c does not count: fedgram 9 {MARK} d does not count [31m x; expected: 1"]
    assert ending(ValueError("a\n  b\nc")) == f"{MARK} ended by ValueError: a; b c"


def record(round: int, seconds: float) -> RoundRecord:
    empty: dict = {"metrics": {}, "payload_bytes": {}, "rejected": {}, "update_norms": {}, "restarts": {}}
    return RoundRecord(
        round=round, shares={}, missing=(), mean_update_norm=1.0, seconds=seconds, samples={}, **empty
    )


def test_the_time_left_includes_training_alone_and_that_stage_tells_its_own():
    """Hand-worked: 24 rounds of 10 s are 240 s, and as long alone."""
    now, lines = [0.0], []
    progress = Progress(JOB, lines.append, lambda: now[0])
    now[0] = 10.0
    progress.round_done(record(1, 10.0))
    assert "about 470 s left, training alone included" in lines[-1]
    plain = Progress(replace(JOB, baseline=False), lines.append, lambda: now[0])
    now[0] = 20.0
    plain.round_done(record(1, 10.0))
    assert "about 230 s left;" in lines[-1]
    progress.stage("alone", 2)
    assert lines[-1].endswith("for comparison, about 240 s")
    progress.waiting()
    assert lines[-1].endswith("for comparison, about 240 s")  # nothing new yet
    now[0] = 60.0
    progress.waiting()
    assert "alone 0/2  40 s so far, about 200 s left" in lines[-1]
    progress.answered("a")
    assert "alone 1/2  a" in lines[-1]
    assert lines[-1].endswith("done, about 200 s left")
    now[0] = 300.0
    progress.waiting()
    assert lines[-1].endswith("280 s so far, longer than expected")
    progress.answered("b")
    assert lines[-1].endswith("done")
    progress.stage("evaluate", 2)
    progress.answered("a")
    assert lines[-1].endswith("evaluating the global model")


def simulated(folder: Path, *options: str, job: Path = ROOT / "jobs/geodora") -> str:
    """The words with which `fedgram simulate` refuses to start."""
    answer = CliRunner().invoke(app, ["simulate", str(job), str(folder), *options])
    assert answer.exit_code == 1, answer.output
    return " ".join(answer.output.split())


def test_a_workspace_whose_name_flare_would_split_is_refused(tmp_path: Path):
    assert "FLARE starts no process with such a name" in simulated(tmp_path / "my data")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "provisioning/simulator/local", tmp_path / "ws/local")
    return tmp_path / "ws"


def test_job_and_site_files_are_compared_before_anything_starts(workspace: Path, tmp_path: Path):
    own = workspace / "local/fedgram"
    (own / "hosp-text.toml").rename(own / "ward.toml")
    shown = simulated(workspace)
    assert "no file of site 'hosp-text', which meta.json of the job deploys to" in shown
    assert "there are hosp-genomics, hosp-image, hosp-tabular, ward" in shown
    (own / "ward.toml").rename(own / "hosp-text.toml")
    shutil.copy(own / "hosp-image.toml", own / "hosp-text.toml")
    assert "modality 'image' expected: 'text', by deploy_map" in simulated(workspace)
    shutil.copytree(ROOT / "provisioning/simulator/local", workspace / "local", dirs_exist_ok=True)
    text = (own / "hosp-text.toml").read_text()
    (own / "hosp-text.toml").write_text(text.replace('"geo", ', ""))
    assert "the job runs method 'geo'" in simulated(workspace)
    (own / "hosp-text.toml").write_text(text)
    job = tmp_path / "job"
    jobs.write(jobs.build("geodora"), job)
    pin_anchors(job, {"anchors": {"sha256": "0" * 64, "concepts": ["a"] * 4}})
    assert "expected: manifest 000000000000" in simulated(workspace, job=job)
    assert not (tmp_path / "ws.log").exists()


def test_options_change_the_job_that_runs_and_not_its_folder(workspace: Path, monkeypatch: pytest.MonkeyPatch):
    seen = []
    monkeypatch.setattr(simulate, "_watch", lambda simulation, console: seen.append(simulation))
    shown = simulated(workspace, "--rounds", "2", "--steps", "3", "--seed", "5", "--no-baseline")
    assert "the run ended without a report" in shown
    assert "4 sites, 2 rounds of 3 steps; 12 processes, about 4." in shown
    settings = seen[0].settings
    assert (settings.training.rounds, settings.training.local_steps) == (2, 3)
    assert (settings.seed, settings.baseline, settings.adapter.rank) == (5, False, 16)
    assert seen[0].state == workspace.parent / "ws.state"
    simulated(workspace, "--state", str(workspace.parent / "kept"))
    assert seen[1].state == workspace.parent / "kept"
    assert seen[1].settings.training.rounds == 24
    assert seen[1].job == ROOT / "jobs/geodora"


def test_a_simulation_needs_more_the_more_sites_it_has(workspace: Path):
    sites = require_fit(ROOT / "jobs/geodora", workspace, JOB_OF_THE_DEMO)
    one = dict([*sites.items()][:1])
    assert footprint.memory(sites, JOB_OF_THE_DEMO) > 2 * footprint.memory(one, JOB_OF_THE_DEMO)
    assert footprint.processes(4) == 12


def test_what_is_no_job_or_no_workspace(tmp_path: Path):
    with pytest.raises(ConfigError, match="not a job folder"):
        simulate.client_names(tmp_path)
    with pytest.raises(ConfigError, match=r"(?s)no local/resources\.json.*fedgram init writes them"):
        simulate.run(ROOT / "jobs" / "geodora", tmp_path, Console(file=io.StringIO()))
    assert simulate.client_names(ROOT / "jobs" / "geodora") == [
        "hosp-image",
        "hosp-text",
        "hosp-genomics",
        "hosp-tabular",
    ]
