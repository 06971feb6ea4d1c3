"""A private site step by step: who takes part, what noise the gradient has, and what the noise hangs on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram.config.privacy import PrivacyConfig
from fedgram.errors import ConfigError
from fedgram.model.per_group import trained
from fedgram.records import GlobalState, Sample
from fedgram.sites import guarantee as promised
from fedgram.sites.budget import Budget
from fedgram.sites.guarantee import guarantee_of
from fedgram.sites.single import SingleSite
from fedgram.training import private, rounds
from fedgram.training.server import agree
from toy import Toy

SECRET = "a secret of a test, of forty characters."
SETTINGS = PrivacyConfig(epsilon=8.0, delta=1e-3)
STEPS = 60


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, ...]]:
    """What the accountant is asked, which takes seconds to answer."""
    found: list[tuple[float, ...]] = []
    monkeypatch.setattr(promised, "noise_multiplier", lambda *question: found.append(question) or 0.8)
    return found


@pytest.fixture(scope="module")
def silent(toy: Toy) -> Toy:
    """A private site that nothing public moves."""
    red = replace(toy.sites["red"], secret=SECRET, privacy=SETTINGS)
    training = {
        "local_steps": STEPS,
        "batch_size": 8,
        "geometry_weight": 0.0,
        "concept_weight": 0.0,
        "anchor_labels": False,
    }
    return replace(toy, sites={**toy.sites, "red": red}).with_job(training=training)


def start_of(toy: Toy) -> GlobalState:
    return agree([rounds.introduce(toy.open(name)) for name in ("red", "green")], toy.job)[0].state


class Watched:
    """How many groups took part in each step of a round of the red site, and what the optimiser was given.

    In the place of the sum of clipped gradients is 1 everywhere.
    """

    def __init__(self, toy: Toy, monkeypatch: pytest.MonkeyPatch, state: GlobalState, **changes: Any):
        self.taken: list[int] = []
        self.gradients: list[dict[str, torch.Tensor]] = []
        site = toy.open("red")
        assert site.guarantee is not None
        site = replace(site, guarantee=replace(site.guarantee, **changes))
        parameters = trained(site.model)

        def ones(site: SingleSite, groups: list[torch.Tensor], *rest: Any) -> dict[str, torch.Tensor]:
            self.taken.append(len(groups))
            return {name: torch.ones_like(p, dtype=torch.float64) for name, p in parameters.items()}

        def keep() -> None:
            self.gradients.append({name: p.grad.clone() for name, p in parameters.items() if p.grad is not None})

        monkeypatch.setattr(private, "clipped_gradient", ones)
        monkeypatch.setattr(site.optimizer, "step", keep)
        rounds.local_round(site, state, charge=lambda start: None)
        self.guarantee = site.guarantee


def test_groups_take_part_by_coins_and_the_divisor_is_what_is_expected(
    silent: Toy, monkeypatch: pytest.MonkeyPatch
):
    """Neither a fixed number of them, nor a mean over as many as there were."""
    found = Watched(silent, monkeypatch, start_of(silent), multiplier=0.0)
    expected, rate = found.guarantee.expected, found.guarantee.rate
    assert 0 < rate < 1
    counts = torch.tensor(found.taken).double()
    assert abs(counts.mean() - expected) < 4 * (expected * (1 - rate) / STEPS) ** 0.5
    assert 0.4 < counts.var() / (expected * (1 - rate)) < 2.0
    for gradient in found.gradients:
        for name, g in gradient.items():
            torch.testing.assert_close(g, torch.full_like(g, 1 / expected), msg=name)


def test_every_parameter_has_the_noise_of_the_guarantee_in_every_step(
    silent: Toy, monkeypatch: pytest.MonkeyPatch
):
    """W and the head as well as B; σ C / E each, and none of it twice."""
    run = silent.with_job(training={"local_steps": 3})
    found = Watched(run, monkeypatch, start_of(run), multiplier=5.0, clip=0.5)
    size = 5.0 * 0.5 / found.guarantee.expected
    steps = [{n: (g - 1 / found.guarantee.expected) / size for n, g in step.items()} for step in found.gradients]
    assert {name.split(".")[0] for name in steps[0]} == {"transformer", "adapter", "head"}
    for name, first in steps[0].items():
        n = first.numel() * 3
        noise = torch.cat([step[name].flatten() for step in steps])
        assert abs(noise.square().mean().item() - 1) < 5 * (2 / n) ** 0.5, name
        assert not torch.equal(first, steps[1][name]), name


def test_the_noise_hangs_on_all_that_a_round_starts_from(silent: Toy):
    """Two replies with the same noise, of other data or weights, would differ by what it hides."""
    site, state = silent.open("red"), start_of(silent)
    first = private.digest_of(site, state)
    assert first == private.digest_of(silent.open("red"), state)
    tokens = site.data["fit"].tokens
    other = replace(tokens, values=tokens.values + 1e-3)
    data = replace(site, data={**site.data, "fit": replace(site.data["fit"], tokens=other)})
    moved = silent.open("red")
    with torch.no_grad():
        next(iter(trained(moved.model).values())).add_(1e-3)
    longer = replace(site, job=silent.with_job(training={"rounds": 9}).job)
    tried = {
        "name": replace(site, name="green"),
        "job": longer,
        "data": data,
        "weights": moved,
        "guarantee": replace(site, guarantee=None),
        "task": replace(site, task=replace(site.task, classes=("other",))),
        "precision": replace(site, config=replace(site.config, precision="bf16")),
    }
    assert len({first, *(private.digest_of(changed, state) for changed in tried.values())}) == 1 + len(tried)


def test_a_round_that_cannot_be_booked_is_not_computed(silent: Toy, monkeypatch: pytest.MonkeyPatch):
    site, state = silent.open("red"), start_of(silent)
    monkeypatch.setattr(private, "clipped_gradient", lambda *rest: pytest.fail("computed"))
    monkeypatch.setattr(private, "poisson_sample", lambda *rest: pytest.fail("drawn"))

    def charge(start: str) -> None:
        raise ConfigError("the budget is used up")

    with pytest.raises(ConfigError, match="used up"):
        rounds.local_round(site, state, charge=charge)


def test_the_accountant_is_asked_about_all_steps_of_the_job_at_its_rate(silent: Toy, asked: list[Any]):
    samples = [Sample(id=str(k), concept="oak", group=str(k // 2), content=None) for k in range(64)]
    job = silent.with_job(training={"rounds": 3, "local_steps": 5, "batch_size": 8}).job
    found = guarantee_of("red", silent.sites["red"], job, samples)
    assert asked == [(8.0, 1e-3, 8 / 32, 15)]
    assert found is not None
    assert (found.groups, found.expected, found.steps) == (32, 8.0, 15)


def test_the_delta_of_all_jobs_together_stays_below_one_group(silent: Toy, tmp_path: Path):
    site = silent.open("red")
    settings = replace(SETTINGS, epsilon=8.0, budget=800.0)
    assert site.guarantee is not None
    guarantee = replace(site.guarantee, delta=0.4 / site.guarantee.groups)
    budget = Budget("red", tmp_path, settings)
    for run in ("a", "b"):
        budget.charge(run, guarantee, run, guarantee.steps)
    with pytest.raises(ConfigError, match="δ would be"):
        budget.charge("c", guarantee, "c", guarantee.steps)
