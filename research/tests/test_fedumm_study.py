"""The promises of the study of FedUMM: the same compute in every line, all lines, even scores."""

from __future__ import annotations

from collections import Counter
from itertools import product
from math import inf

from research.fedumm.__main__ import SEEDS, trials
from research.fedumm.trial import BATCH, STEPS, _evenly, _job
from research.scenes.demo import WORLD
from research.scenes.prompts import make_prompts
from research.scenes.words import SKILLS


def test_every_line_has_the_same_compute():
    for trial in trials():
        training = _job(trial, {}).training
        if trial.rounds:
            assert trial.clients * training.rounds * training.local_steps == STEPS, trial
            assert training.batch_size == BATCH


def test_the_papers_grid_is_there_with_every_seed():
    found = {(t.clients, t.alpha, t.seed) for t in trials() if (t.method, t.rank, t.rounds) == ("fedit", 16, 10)}
    grid = [(1, inf), *product((2, 4, 8, 16), (0.1, 0.5, 1.0, inf))]
    assert found == {(*cell, seed) for cell in grid for seed in SEEDS}
    assert len(SEEDS) >= 3


def test_every_skill_has_as_many_pictures():
    prompts = make_prompts(WORLD, 24, 0)
    assert len(set(Counter(p.tag for p in prompts).values())) > 1  # the world has fewer prompts of some
    even = _evenly(prompts)
    assert Counter(p.tag for p in even) == dict.fromkeys(SKILLS, 24)
    assert set(even) == set(prompts)
