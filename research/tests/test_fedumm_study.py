"""The promises of the study of FedUMM: equal compute, all lines, even scores, rates of other data."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from itertools import product
from math import inf
from pathlib import Path

import numpy as np
import pytest
import torch
from fedgram.config.job import BackboneConfig
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import ConfigError
from fedgram.model.unified.janus import load_janus
from fedgram.scoring.geneval.exact import ExactDetector
from torch import Tensor

from research.fedumm.full import WholeModel, fine_tune
from research.fedumm.pictures import ceiling, is_new, judged
from research.fedumm.studies import (
    LEFT_OUT,
    MORE,
    MOST,
    RATES,
    SEEDS,
    STEPS,
    TUNING_SEED,
    chosen,
    kind_of,
    trials,
    tuning,
)
from research.fedumm.trial import BATCH, FULL, GENERATION_WEIGHT, Trial, _evenly, config_of, job_of, open_sites
from research.scenes.demo import WORLD
from research.scenes.prompts import describe, make_prompts
from research.scenes.scenes import draw
from research.scenes.words import SKILLS, portray

SOME = dict.fromkeys(RATES, 4.0)


def test_every_line_has_the_same_compute_or_a_multiple_of_it():
    found = trials(SOME)
    assert len(found) == len(set(found))
    for trial in (*found, *tuning()):
        training = job_of(trial).training
        if trial.steps:
            assert trial.clients * training.rounds * training.local_steps in (STEPS, MORE * STEPS, MOST * STEPS), (
                trial
            )
            assert training.batch_size == BATCH


def test_the_papers_grid_is_there_with_every_seed():
    plain = [
        t
        for t in trials(SOME)
        if (t.method, t.rank, t.steps, t.rounds, t.momentum, t.without) == ("fedit", 16, STEPS, 10, 0.0, "nothing")
    ]
    grid = [(1, inf), *product((2, 4, 8, 16), (0.1, 0.5, 1.0, inf))]
    assert {(t.clients, t.alpha, t.seed) for t in plain} == {(*cell, seed) for cell in grid for seed in SEEDS}
    assert len(SEEDS) >= 3


def test_a_kind_has_the_rate_of_least_loss_on_data_of_no_run():
    assert TUNING_SEED not in SEEDS
    assert {t.seed for t in tuning()} == {TUNING_SEED}
    wanted = {kind: rates[i % len(rates)] for i, (kind, rates) in enumerate(RATES.items())}
    rows = [
        {**asdict(t), "understanding_loss": abs(t.rate - wanted[kind_of(asdict(t))]) / 100, "generation_loss": 0.3}
        for t in tuning()
    ]
    assert chosen(rows) == wanted
    assert {kind_of(asdict(t)): t.rate for t in trials(wanted) if 0 < t.steps < MOST * STEPS} == wanted
    # Making pictures has the weight that it has in training.
    dearer = [{**row, "generation_loss": 0.3 + row["rate"]} for row in rows]
    assert chosen(dearer) == {kind: min(rates) for kind, rates in RATES.items()}
    with pytest.raises(ConfigError, match="no rate of Kind"):
        chosen([row for row in rows if row["method"] != "fedit"])


def test_a_kind_without_rows_has_no_runs():
    without = {kind: rate for kind, rate in SOME.items() if kind.method != "ffa"}
    assert "ffa" in {t.method for t in trials(SOME)} - {t.method for t in trials(without)}
    assert [t.steps for t in trials({})] == [0] * len(SEEDS)


def test_what_is_left_out_is_not_there(tmp_path: Path):
    trial = next(t for t in trials(SOME) if (t.clients, t.steps, t.without) == (4, STEPS, "nothing"))
    whole, job = config_of(trial, tmp_path, tmp_path).require_unified(), job_of(trial)
    assert (whole.generation_weight, job.training.final_rate) == (GENERATION_WEIGHT, 0.05)
    assert whole.rehearsal
    assert whole.drift_weight > 0
    without = {part: replace(trial, without=part) for part in LEFT_OUT}
    configs = {part: config_of(t, tmp_path, tmp_path).require_unified() for part, t in without.items()}
    assert configs == {
        "rehearsal": replace(whole, rehearsal=None),
        "drift": replace(whole, drift_weight=0.0),
        "falling": whole,
        "weight": replace(whole, generation_weight=1.0),
    }
    assert [job_of(t).training.final_rate for t in without.values()] == [0.05, 0.05, 1.0, 0.05]


def test_full_fine_tuning_averages_every_weight_of_the_tower(tmp_path: Path):
    """One round of one step at two sites, against a step of AdamW on a base of which no adapter was ever part."""
    job, sites = open_sites(Trial(2, inf, FULL, 16, 2, 1, 0.0, 1.0, 0), tmp_path)
    expected: dict[str, Tensor] = {}
    for site in sites.values():
        base = load_janus(BackboneConfig("janus-shapes"), {})
        weights = dict(base.tower.requires_grad_(True).named_parameters())
        replace(site, model=WholeModel(base, weights)).task_loss(next(site.batches(1, 1))).loss.backward()
        for name, weight in weights.items():
            # The first step of Adam is the gradient's sign, but for its ε.
            stepped = weight.detach() - 1e-3 * weight.grad / (weight.grad.abs() + 1e-8)
            expected[name] = expected.get(name, 0.0) + len(site.data["train"]) * stepped
    samples = sum(len(site.data["train"]) for site in sites.values())
    sent = fine_tune(sites, job)
    one, two = (dict(site.model.unified.tower.named_parameters()) for site in sites.values())
    for name, total in expected.items():
        torch.testing.assert_close(one[name].detach(), total / samples, rtol=1e-4, atol=1e-6)
        assert torch.equal(one[name], two[name])
    assert sent == 4 * sum(total.numel() for total in expected.values())


def test_a_whole_model_remembers_the_weights_it_began_with():
    base = load_janus(BackboneConfig("janus-shapes"), {})
    weights = dict(base.tower.requires_grad_(True).named_parameters())
    model, begun = WholeModel(base, weights), {name: weight.detach().clone() for name, weight in weights.items()}
    with torch.no_grad():
        for weight in weights.values():
            weight += 1.0
    with model.untrained():
        assert all(torch.equal(weight, begun[name]) for name, weight in weights.items())
    assert all(torch.equal(weight, begun[name] + 1.0) for name, weight in weights.items())


def test_every_skill_has_as_many_pictures():
    prompts = make_prompts(WORLD, 24, 0)
    assert len(set(Counter(p.tag for p in prompts).values())) > 1  # the world has fewer prompts of some
    even = _evenly(prompts)
    assert Counter(p.tag for p in even) == dict.fromkeys(SKILLS, 24)
    assert set(even) == set(prompts)


def test_a_prompt_is_new_by_its_thing_or_its_colour():
    def prompt(*wanted: Wanted) -> Prompt:
        return Prompt("", "", wanted)

    assert not is_new(prompt(Wanted("circle", 1)))
    assert not is_new(prompt(Wanted("circle", 1, "red"), Wanted("square", 1, "blue")))
    assert is_new(prompt(Wanted("star", 2)))
    assert is_new(prompt(Wanted("circle", 1), Wanted("star", 1)))
    assert is_new(prompt(Wanted("square", 1, "purple")))


def test_true_pictures_are_right_and_those_of_other_prompts_are_not():
    """Half of the prompts of each skill get their own picture; the others one of another colour and shape."""
    generator = np.random.default_rng(0)
    shown = [(skill, *portray(skill, generator, WORLD)) for skill in SKILLS for _ in range(10)]
    prompts = [describe(*one) for one in shown]
    pictures = [draw(scene, 32) for _, scene, _ in shown]
    assert set(judged(prompts, pictures, ExactDetector()).values()) == {1.0}
    other = replace(WORLD, colours=("white",), shapes=("cross", "diamond"))
    wrong = [draw(portray("single_object", generator, other)[0], 32) for _ in prompts]
    mixed = [right if i % 2 else no for i, (right, no) in enumerate(zip(pictures, wrong, strict=True))]
    found = judged(prompts, mixed, ExactDetector())
    assert {found[name] for name in ("geneval", *(f"geneval {skill}" for skill in SKILLS))} == {0.5}
    assert 0 < found["geneval new"] < 1
    assert 0 < found["geneval known"] < 1


def test_the_tokeniser_of_the_embedded_model_sets_a_high_ceiling():
    found = ceiling(load_janus(BackboneConfig("janus-shapes"), {}), WORLD, 0)
    assert min(found.values()) >= 0.95
