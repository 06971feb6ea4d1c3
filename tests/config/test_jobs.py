"""Job folders: those that we ship are as `fedgram job write` writes them, and every method has one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fedgram.cli.main import app
from fedgram.config import jobfolder
from fedgram.config.job import JobConfig
from fedgram.config.site import read_site_config
from fedgram.config.strict import from_dict
from fedgram.errors import ConfigError
from fedgram.flare import jobs
from fedgram.methods import JOBS, METHODS, method_of
from toy import ROOT
from typer.testing import CliRunner

SHIPPED = ("fedumm", "fedumm-mixed", "few-labels", "geodora", "geolora")
DEMO = "provisioning/simulator/local/fedgram"


def write(*arguments: object) -> str:
    """The output of a command that succeeds."""
    answer = CliRunner().invoke(app, ["job", "write", *map(str, arguments)])
    assert answer.exit_code == 0, answer.output
    return answer.output


def refused(*arguments: object) -> str:
    answer = CliRunner().invoke(app, ["job", "write", *map(str, arguments)])
    assert answer.exit_code == 1, answer.output
    return " ".join(answer.output.split())


def files(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def job_in(folder: jobs.Folder) -> JobConfig:
    return from_dict(JobConfig, jobfolder.settings_in(folder[jobfolder.SERVER]), "test")


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_folders_are_as_written(name: str, tmp_path: Path):
    shown = write(name, tmp_path / name)
    assert files(tmp_path / name) == files(ROOT / "jobs" / name)
    assert f"fedgram simulate {tmp_path / name}" in "".join(shown.split("\n"))


def test_no_other_folder_is_shipped():
    assert tuple(sorted(path.name for path in (ROOT / "jobs").iterdir())) == SHIPPED


def test_every_method_has_a_job_that_the_demo_sites_run():
    found = {name: job_in(jobs.build(name)) for name in JOBS}
    assert {job.method.name for job in found.values()} == METHODS.keys()
    for name, job in found.items():
        assert type(method_of(job)) is JOBS[name]
    assert found["geodora"] == found["geo"] != found["geolora"]
    for path in (ROOT / DEMO).glob("hosp-*.toml"):
        assert set(read_site_config(path).methods) == METHODS.keys()


def test_baselines_are_plain_lora_with_weights_by_samples():
    """What a job changes of GeoDoRA, by hand for three of them."""
    geodora = jobs.settings("geodora")
    assert {"dora": True, "rank": 16}.items() == geodora["adapter"].items()
    for name, weight in (("fedit", 0.0), ("fedhenn", 1.0), ("fedprox", 0.0)):
        job = job_in(jobs.build(name))
        assert (job.adapter.dora, job.adapter.rank, job.aggregation.weights) == (False, 16, "samples")
        assert (job.training.geometry_weight, job.training.concept_weight) == (weight, 0.0)
        assert job.training.rounds == geodora["training"]["rounds"]
    assert job_in(jobs.build("fedprox")).method.strength == 0.1
    assert job_in(jobs.build("fedadam")).aggregation.server_optimizer == "adam"


def test_a_method_over_the_sites_of_another_job(tmp_path: Path):
    shown = write("fedit", tmp_path / "out", "--from", ROOT / "jobs/fedumm-mixed")
    assert 'has "fedit"' in " ".join(shown.split())
    mixed, out = files(ROOT / "jobs/fedumm-mixed"), files(tmp_path / "out")
    assert mixed.keys() == out.keys()
    assert {name for name in out if out[name] != mixed[name]} == {jobfolder.META, jobfolder.SERVER}
    job = from_dict(JobConfig, jobfolder.settings_in(jobfolder.read_server(tmp_path / "out")), "test")
    assert (job.method.name, job.backbone.name, job.training.rounds) == ("fedit", "janus-shapes", 8)
    assert jobfolder.client_names(tmp_path / "out") == jobfolder.client_names(ROOT / "jobs/fedumm-mixed")


def test_an_unknown_name_writes_nothing(tmp_path: Path):
    text = refused("fedprx", tmp_path / "out")
    assert "unknown method 'fedprx'" in text
    assert "did you mean 'fedprox'?" in text
    assert not (tmp_path / "out").exists()


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    out = tmp_path / "out"
    write("fedit", out)
    before = files(out)
    assert "already there" in refused("local", out)
    assert files(out) == before
    (out / "app_image" / "note.json").write_text("{}")
    write("local", out, "--force")
    assert "fedgram-local" in (out / "meta.json").read_text()
    assert not (out / "app_image" / "note.json").exists()


def test_force_overwrites_job_folders_and_no_others(tmp_path: Path):
    (tmp_path / "thesis.tex").write_text("all of it")
    assert "no job folder, so it is not overwritten" in refused("local", tmp_path, "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_templates_that_cannot_be_used(tmp_path: Path):
    assert "not a job of fedgram" in refused("fedit", tmp_path / "out", "--from", tmp_path)
    write("fedit", tmp_path / "fedit")
    assert "a job of method 'fedit'" in refused("local", tmp_path / "out", "--from", tmp_path / "fedit")
    write("geodora", tmp_path / "code")
    (tmp_path / "code" / "app_server" / "custom.py").write_text("")
    assert "configuration only" in refused("local", tmp_path / "out", "--from", tmp_path / "code")
    broken = tmp_path / "broken"
    write("geodora", broken)
    server = json.loads((broken / jobfolder.SERVER).read_text())
    (broken / jobfolder.SERVER).write_text(json.dumps({**server, "workflows": []}))
    with pytest.raises(ConfigError, match="one workflow, as in jobs/geodora"):
        jobs.build("local", broken)
    assert not (tmp_path / "out").exists()
