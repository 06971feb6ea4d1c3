"""A Recipe on a provisioned federation, and on FLARE's proof of concept: the model of the plain loop."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fedgram
import psutil
import pytest
from fedgram.config.strict import to_dict
from loopback import wait_until
from nvflare.recipe.poc_env import PocEnv
from nvflare.recipe.prod_env import ProdEnv
from test_simulator import assert_same_model, plain
from toy import ROOT, Toy

from federation.federation import MARK, left, running

pytestmark = pytest.mark.federation


@pytest.fixture
def poc(toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """Two sites, one round, in a POC that lies in the test's folder; none of its processes outlives the test."""
    monkeypatch.setenv("NVFLARE_POC_WORKSPACE", str(tmp_path / "poc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "custom"), str(toy.root / "modules")]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv(MARK, str(tmp_path))
    sites = {name: toy.sites[name] for name in ("red", "green")}
    yield replace(toy.with_job(training={"rounds": 1, "local_steps": 1}, baseline=False), sites=sites)
    for pid in left(tmp_path):
        psutil.Process(pid).kill()


def recipe_of(run: Toy) -> fedgram.Recipe:
    return fedgram.Recipe(run.sites, settings=to_dict(run.job), name="mine")


def test_on_a_provisioned_federation(toy: Toy, tmp_path: Path):
    with running(toy, tmp_path) as federation:
        kit = federation.kit(federation.admin)
        run = recipe_of(toy).execute(ProdEnv(startup_kit_location=str(kit), username=federation.admin))
        assert run is not None
        results = Path(str(run.get_result(timeout=300)))
        assert run.get_status() == "FINISHED:COMPLETED"
    assert results.is_relative_to(kit)
    assert_same_model(results / "workspace/fedgram", plain(toy, tmp_path / "plain"))


@pytest.mark.filterwarnings("ignore:ssl_context is deprecated")  # in FLARE's admin client, in this process
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # its PocEnv leaves Popen objects
def test_in_a_proof_of_concept(poc: Toy, tmp_path: Path):
    run = recipe_of(poc).execute(PocEnv(clients=[*poc.sites]))
    assert run is not None
    results = Path(str(run.get_result(timeout=300, clean_up=False)))
    assert run.get_status() == "FINISHED:COMPLETED", (results, *(tmp_path / "poc").rglob("log.txt"))
    assert_same_model(results / "workspace/fedgram", plain(poc, tmp_path / "plain"))
    shares = json.loads((results / "workspace/fedgram/metrics.json").read_text())["rounds"][0]["shares"]
    assert set(shares) == {"red", "green"}
    wait_until(lambda: not left(tmp_path), 60, "the end of all processes of the POC")
