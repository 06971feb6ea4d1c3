"""A Recipe in FLARE's environments, with real processes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import fedgram
import pytest
import torch
from fedgram.config.strict import to_dict
from fedgram.training.loop import run_federation
from nvflare.recipe.sim_env import SimEnv
from safetensors.torch import load_file
from toy import ROOT, Toy


@pytest.fixture
def short(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """Two sites, one round, whose processes find the toy's modalities."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "custom"), str(toy.root / "modules")]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    sites = {name: toy.sites[name] for name in ("red", "green")}
    return replace(toy.with_job(training={"rounds": 1, "local_steps": 1}, baseline=False), sites=sites)


def recipe_of(run: Toy) -> fedgram.Recipe:
    return fedgram.Recipe(run.sites, settings=to_dict(run.job), name="mine")


def require_same(adapter: Path, run: Toy, folder: Path) -> None:
    outcome = run_federation(run.sessions(folder), run.job, folder / "server")
    saved = load_file(adapter / "adapter_model.safetensors")
    for name, b in outcome.server.state.B.items():
        assert torch.equal(saved[f"{name}.lora_B.weight"], b)


@pytest.mark.slow
def test_in_a_simulation_it_ends_at_the_plain_loop(short: Toy, tmp_path: Path):
    run = recipe_of(short).execute(SimEnv(clients=["red", "green"], workspace_root=str(tmp_path / "sim")))
    assert run is not None
    results = Path(str(run.get_result())) / "server/simulate_job/fedgram"
    require_same(results / "adapter", short, tmp_path / "plain")
