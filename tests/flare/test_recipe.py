"""FLARE's idiom: a Recipe writes the folder of `fedgram job write`, and runs where its sites are."""

from __future__ import annotations

import json
from pathlib import Path

import fedgram
import pytest
from fedgram.cli.main import app
from fedgram.config.site import read_site_config
from fedgram.errors import ConfigError
from fedgram.flare import jobs
from nvflare.app_common.filters.exclude_vars import ExcludeVars
from nvflare.recipe.poc_env import PocEnv
from nvflare.recipe.sim_env import SimEnv
from toy import ROOT, Toy
from typer.testing import CliRunner


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("method", ["geodora", "few-labels", "fedit"])
def test_export_is_job_write_byte_for_byte(method: str, tmp_path: Path):
    written = CliRunner().invoke(app, ["job", "write", method, str(tmp_path / "written")])
    assert written.exit_code == 0, written.output
    fedgram.Recipe(method=method).export(str(tmp_path / "jobs"))
    assert files(tmp_path / "jobs" / f"fedgram-{method}") == files(tmp_path / "written")


def test_own_sites_make_the_job_that_init_would_write(toy: Toy, tmp_path: Path):
    recipe = fedgram.Recipe(toy.sites, settings={"training": {"rounds": 2}, "baseline": False}, name="mine")
    recipe.export(str(tmp_path))
    found = files(tmp_path / "mine")
    assert all(name.endswith(".json") for name in found)
    meta = json.loads(found["meta.json"])
    assert meta["deploy_map"] == {"app_server": ["server"], **{f"app_{name}": [name] for name in toy.sites}}
    pins = {"anchors": {"sha256": toy.job.anchors.sha256, "concepts": list(toy.job.anchors.concepts)}}
    settings = json.loads(found["app_server/config/config_fed_server.json"])["workflows"][0]["args"]["job"]
    assert settings["anchors"] == pins["anchors"]
    assert settings["training"] == {"rounds": 2, "local_steps": 4}
    with pytest.raises(ConfigError, match="unknown setting 'round'"):
        fedgram.Recipe(toy.sites, settings={"training": {"round": 2}})


def test_a_simulation_finds_the_sites_own_files(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = fedgram.Recipe(toy.sites, name="mine")
    started: list[list[str]] = []

    def run(command: list[str], check: bool) -> object:
        started.append(command)
        return type("Done", (), {"returncode": 0})()

    monkeypatch.setattr("fedgram.flare.recipe.subprocess.run", run)
    done = recipe.execute(SimEnv(clients=sorted(toy.sites), workspace_root=str(tmp_path)))
    assert done is not None
    assert done.get_result() == str(tmp_path / "mine")
    assert started[0][3:8] == ["simulator", "-w", str(tmp_path / "mine"), "-t", str(len(toy.sites))]
    local = tmp_path / "mine/local"
    allowed = (ROOT / "provisioning/simulator/local/resources.json").read_bytes()
    assert (local / "resources.json").read_bytes() == allowed
    for name, config in toy.sites.items():
        assert read_site_config(local / "fedgram" / f"{name}.toml") == config
    with pytest.raises(ConfigError, match="expected: clients="):
        recipe.execute(SimEnv(num_clients=7, workspace_root=str(tmp_path)))
    with pytest.raises(ConfigError, match="expected: clients="):
        recipe.process_env(PocEnv(num_clients=7))


def test_what_is_no_setting_is_refused(toy: Toy):
    with pytest.raises(ConfigError, match="filters are for the sites' own policy"):
        fedgram.Recipe(toy.sites).add_client_output_filter(ExcludeVars())
    with pytest.raises(ConfigError, match="settings alone"):
        fedgram.Recipe().add_server_config({"a": 1})


def test_the_demo_has_a_site_file_for_each_of_its_sites(tmp_path: Path):
    from fedgram.demo.files import site_files

    for name in ("few-labels", "geodora", "fedumm", "fedumm-mixed", "fedit"):
        deployed = [s for sites in jobs.build(name)["meta.json"]["deploy_map"].values() for s in sites]
        assert {*deployed} - {"server"} <= site_files(name).keys()
