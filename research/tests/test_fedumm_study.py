"""The promises of the study of FedUMM: equal compute, all lines, even scores, rates of other data."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, replace
from itertools import product
from math import inf

import numpy as np
import pytest
from fedgram.config.job import BackboneConfig
from fedgram.data.prompts import Prompt, Wanted
from fedgram.errors import ConfigError
from fedgram.model.unified.janus import load_janus
from fedgram.scoring.geneval.exact import ExactDetector

from research.fedumm.pictures import ceiling, is_new, judged
from research.fedumm.studies import (
    CENTRAL,
    FEDIT,
    LOCAL,
    METHODS,
    MORE,
    SEEDS,
    STEPS,
    TUNING_SEED,
    chosen,
    trials,
    tuning,
)
from research.fedumm.trial import BATCH, _evenly, job_of
from research.scenes.demo import WORLD
from research.scenes.prompts import describe, make_prompts
from research.scenes.scenes import draw
from research.scenes.words import SKILLS, portray

SETTINGS = dict.fromkeys((CENTRAL, FEDIT, LOCAL, *METHODS), (4.0, 0.6))


def test_every_line_has_the_same_compute_or_four_times_that():
    found = trials(SETTINGS)
    assert len(found) == len(set(found))
    for trial in (*found, *tuning()):
        training = job_of(trial).training
        if trial.steps:
            assert trial.clients * training.rounds * training.local_steps in (STEPS, MORE * STEPS), trial
            assert training.batch_size == BATCH


def test_the_papers_grid_is_there_with_every_seed():
    plain = [t for t in trials(SETTINGS) if (t.method, t.rank, t.steps, t.rounds) == ("fedit", 16, STEPS, 10)]
    grid = [(1, inf), *product((2, 4, 8, 16), (0.1, 0.5, 1.0, inf))]
    assert {(t.clients, t.alpha, t.seed) for t in plain} == {(*cell, seed) for cell in grid for seed in SEEDS}
    assert len(SEEDS) >= 3


def test_a_kind_has_the_setting_that_was_best_on_data_of_no_run():
    assert TUNING_SEED not in SEEDS
    assert {t.seed for t in tuning()} == {TUNING_SEED}
    rows = [{**asdict(t), "vqa_accuracy": 0.5, "geneval": t.rate / 100 + t.momentum / 1000} for t in tuning()]
    found = chosen(rows)
    assert found[FEDIT] == (4.0, 0.6)
    assert found[CENTRAL] == (4.0, 0.0)
    assert {t.rate for t in trials(found) if t.steps} == {4.0}
    plain = chosen([row for row in rows if row["method"] != "ffa"])
    assert "ffa" in {t.method for t in trials(found)} - {t.method for t in trials(plain)}
    with pytest.raises(ConfigError, match="no rate of Kind"):
        chosen([row for row in rows if row["method"] != "fedit"])


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
