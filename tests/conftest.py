"""What every test shares: one thread, fixed seeds, deterministic examples. Warnings are errors (pyproject).

Nothing heavy is imported at the top: the process that hands the tests to its workers needs no torch.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from toy import Toy

# `make test` repeats the same few examples everywhere, `make test-slow` looks for new ones.
settings.register_profile("repeat", max_examples=25, deadline=None, derandomize=True, database=None)
settings.register_profile("explore", max_examples=1000, deadline=None, database=None)
settings.load_profile("repeat")

# Also in the processes that tests start, and before numpy or torch is imported. Nothing here is compiled; setting
# the compiler up is a third of the time in which a process with bitsandbytes imports PEFT.
os.environ["OMP_NUM_THREADS"] = os.environ["TORCHDYNAMO_DISABLE"] = "1"

# These go first, so that no worker begins a long one when the others are done.
LONG = ("integration/test_simulator.py", "methods/test_every_method.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not str(item.path).endswith(LONG))


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


@pytest.fixture(autouse=True, scope="session")
def _no_fsync() -> None:
    """Tests kill processes, not the machine: nothing here has to outlive a loss of power."""
    os.fsync = lambda fd: None


@pytest.fixture(autouse=True)
def _fixed_seeds() -> None:
    import numpy
    import torch

    random.seed(0)
    numpy.random.seed(0)  # noqa: NPY002  what libraries still draw from
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A small federation of three sites."""
    import toy

    return toy.make(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def finished(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the results of a finished run, in which green never saw a label of rye."""
    from fedgram.results import report
    from fedgram.training.loop import run_federation

    folder = tmp_path_factory.mktemp("finished")
    green = replace(toy.sites["green"], concepts=("oak", "pine", "moss"))
    run = replace(toy, sites={**toy.sites, "green": green})
    outcome = run_federation(run.sessions(folder / "fedgram"), run.job, folder / "state")
    report.write(folder / "server", outcome, run.job)
    return folder
