"""What every test shares: one thread, fixed seeds, deterministic examples. Warnings are errors (pyproject)."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path

import numpy
import pytest
import torch
import toy as toy_federation
from fedgram.results import report
from fedgram.training.loop import run_federation
from hypothesis import settings

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)

# `pytest --hypothesis-profile=explore` looks for new examples; the default repeats the same ones everywhere.
settings.register_profile("repeat", max_examples=40, deadline=None, derandomize=True, database=None)
settings.register_profile("explore", max_examples=1000, deadline=None, database=None)
settings.load_profile("repeat")


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    random.seed(0)
    numpy.random.seed(0)  # noqa: NPY002  what libraries still draw from
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> toy_federation.Toy:
    """A small federation of three sites."""
    return toy_federation.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def finished(toy: toy_federation.Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the results of a finished run, in which green never saw a label of rye."""
    folder = tmp_path_factory.mktemp("finished")
    green = dataclasses.replace(toy.sites["green"], concepts=("oak", "pine", "moss"))
    run = dataclasses.replace(toy, sites={**toy.sites, "green": green})
    outcome = run_federation(run.sessions(folder / "fedgram"), run.job, folder / "state")
    report.write(folder / "server", outcome, run.job)
    return folder
