"""The worked example of a method of one's own, in the plain loop; on FLARE see tests/integration."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from fedgram.cli.main import app
from fedgram.config import jobfolder
from fedgram.model import lora
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from one_round import Step, with_method
from toy import ROOT, Toy
from typer.testing import CliRunner

NAME = "my_methods:ClippedMean"


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "examples")


def clipped(step: Step, strength: float) -> dict[str, torch.Tensor]:
    """By hand: the mean over the sites of their changes, each scaled to a norm of at most ``strength``."""
    whole = {site: torch.cat([t.double().flatten() for t in u.extra.values()]) for site, u in step.updates.items()}
    scales = {site: min(1.0, strength / float(vector.norm())) for site, vector in whole.items()}
    name = f"B/{step.layer}"
    return {"mean": step.mean({s: scales[s] * u.extra[name].double() for s, u in step.updates.items()}), **scales}


def test_nobody_counts_for_more_than_the_strength(toy: Toy):
    step = Step(with_method(toy, NAME, method={"strength": 1000.0}))
    plain = clipped(step, 1000.0)
    assert {plain[site] for site in step.sites} == {1.0}
    torch.testing.assert_close(step.after.state.extra[f"B/{step.layer}"], plain["mean"].float())
    strict = Step(with_method(toy, NAME, method={"strength": 0.01}))
    expected = clipped(strict, 0.01)
    assert max(expected[site] for site in strict.sites) < 1
    torch.testing.assert_close(strict.after.state.extra[f"B/{step.layer}"], expected["mean"].float())


def test_a_loud_site_is_quietened(toy: Toy):
    step = Step(with_method(toy, NAME, method={"strength": 0.01}))
    red = step.updates["red"]
    loud = {**step.updates, "red": dataclasses.replace(red, extra={k: 100 * v for k, v in red.extra.items()})}
    after = step.close(step.before, loud.values()).state.extra
    for name, b in step.after.state.extra.items():
        torch.testing.assert_close(after[name], b, atol=1e-6, rtol=1e-2)  # bf16 rounds 100 v


def test_the_sites_take_it_over_and_a_run_ends(toy: Toy, tmp_path: Path):
    run = with_method(toy, NAME)
    outcome = run_federation(run.sessions(tmp_path / "fedgram"), run.job, tmp_path / "state")
    state = outcome.server.state
    assert state.B == {}
    site = run.open("red")
    rounds.adopt(site, state)
    for layer, b in lora.get_B(site.model.transformer).items():
        assert torch.equal(b, state.extra[f"B/{layer}"])
        assert b.abs().max() > 0


def test_its_job_is_written_like_any_other(tmp_path: Path):
    answer = CliRunner().invoke(app, ["job", "write", NAME, str(tmp_path / "job")])
    assert answer.exit_code == 0, answer.output
    assert f'has "{NAME}"' in " ".join(answer.output.split())
    job = jobfolder.settings_in(jobfolder.read_server(tmp_path / "job"))
    assert (job["method"], job["adapter"]["dora"]) == ({"name": NAME}, False)
