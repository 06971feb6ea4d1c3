"""A federation in one call: the same end as the loop that it stands for."""

from __future__ import annotations

import os
from pathlib import Path

import fedgram
import pytest
import torch
from fedgram.config.strict import to_dict
from fedgram.errors import ConfigError
from fedgram.flare.workspace import site_file
from fedgram.training.loop import run_federation
from fedgram.training.notebook import job_config, plain_site, site_configs
from toy import Toy


def test_one_call_trains_the_same_federation(toy: Toy, tmp_path: Path):
    """Sites as plain data, with paths from here, and as a site file; the job as plain data without its anchors."""
    run = toy.with_job(training={"rounds": 1, "local_steps": 1}, baseline=False)
    first, *others = run.sites
    plain: dict = {}
    for name in others:
        config = run.sites[name]
        plain[name] = {k: v for k, v in plain_site(config).items() if k not in ("anchors", "heldout")}
        plain[name]["data"] = os.path.relpath(config.data)
    (tmp_path / "own.toml").write_text(site_file(plain_site(run.sites[first])))
    settings = {k: v for k, v in to_dict(run.job).items() if k not in ("anchors", "heldout")}
    config = run.sites[first]
    outcome = fedgram.run(
        {first: tmp_path / "own.toml", **plain},
        anchors=config.anchors,
        heldout=config.heldout,
        job=settings,
        folder=tmp_path / "run",
    )
    expected = run_federation(run.sessions(tmp_path / "plain"), run.job, tmp_path / "plain/server")
    assert outcome.together.keys() == expected.together.keys() == run.sites.keys()
    for name, b in expected.server.state.B.items():
        assert torch.equal(outcome.server.state.B[name], b)
    assert fedgram.load(tmp_path / "run", site=first).site.name == first


def test_all_forms_of_a_site_are_one(toy: Toy, tmp_path: Path):
    for name, config in toy.sites.items():
        (tmp_path / "own.toml").write_text(site_file(plain_site(config), notes=["by its owner"]))
        forms = site_configs({name: config, "plain": plain_site(config), "file": tmp_path / "own.toml"})
        assert forms[name] == forms["plain"] == forms["file"] == config


def test_what_is_missing_or_differs_is_said(toy: Toy, tmp_path: Path):
    first, second, *_ = toy.sites.values()
    with pytest.raises(ConfigError, match="name them: anchors=FOLDER"):
        site_configs({"a": {"modality": "text"}})
    with pytest.raises(ConfigError, match="unknown setting 'dat'"):
        site_configs({"a": {"modality": "text", "dat": "x"}}, anchors=tmp_path)
    with pytest.raises(ConfigError, match="no sites"):
        site_configs({})
    with pytest.raises(ConfigError, match=r"(?s)site a: 3.*expected: settings as plain data"):
        site_configs({"a": 3})  # pyrefly: ignore
    with pytest.raises(ConfigError, match="0 sets of anchors"):
        job_config(None, {})
    mixed = site_configs({"a": first, "b": {**plain_site(second), "anchors": second.heldout}})
    with pytest.raises(ConfigError, match="2 sets of anchors"):
        job_config({}, mixed)
    assert job_config(toy.job, {}) == toy.job
    assert job_config({}, toy.sites).anchors == toy.job.anchors
