"""A task of another package: named by import path in a site's file, trained, saved and opened again."""

from __future__ import annotations

import dataclasses
import importlib
import math
import sys
from pathlib import Path
from typing import Any

import fedgram
import numpy as np
import pytest
import torch
from fedgram.config.site import Reading, SiteConfig
from fedgram.errors import ConfigError, DataError
from fedgram.model.tasks import make_task
from fedgram.records import Sample
from fedgram.training.loop import run_federation
from toy import ROOT, Toy

TASK = "my_task:Counts"
COUNTS = {"oak": 12, "pine": 6, "rye": 2, "moss": 1}
SITE = SiteConfig(modality="text", data="", tokenizer="", anchors="")


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    yield
    sys.modules.pop("my_task", None)


def samples(*targets: float | None) -> list[Sample]:
    return [Sample(id=str(i), concept="", group=str(i), content=None, target=t) for i, t in enumerate(targets)]


def test_a_site_trains_it_beside_sites_with_others_and_its_result_is_opened_again(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    signal = importlib.import_module("toy_modalities").Signal
    read = signal.read

    def with_counts(self: Any, path: Path, reading: Reading) -> list[Sample]:
        if reading.task != "regression":
            return read(self, path, reading)
        return [dataclasses.replace(s, target=float(COUNTS[s.concept])) for s in read(self, path, reading)]

    monkeypatch.setattr(signal, "read", with_counts)
    red = dataclasses.replace(toy.sites["red"], task=TASK)
    federation = dataclasses.replace(toy, sites={**toy.sites, "red": red})
    federation = federation.with_job(training={"rounds": 2})
    outcome = run_federation(federation.sessions(tmp_path), federation.job, tmp_path / "server")
    assert set(outcome.together["red"].metrics) >= {"mae"}
    assert "accuracy" in outcome.together["green"].metrics
    red = fedgram.load(tmp_path / "red")
    assert all(prediction.value > 0 for prediction in red.predict([np.zeros(64, np.float32)]))


def test_its_loss_is_least_at_the_true_rate():
    task = make_task(dataclasses.replace(SITE, task=TASK), samples(1.0, 3.0))
    losses = [task.loss(torch.tensor([[math.log(rate / 2)]]), torch.tensor([3.0])).item() for rate in (2, 3, 4)]
    assert min(losses) == losses[1]


def test_rates_are_averaged():
    task = make_task(dataclasses.replace(SITE, task=TASK), samples(1.0, 3.0))
    outputs = [torch.tensor([[math.log(rate / 2)]]) for rate in (2.0, 6.0)]
    assert task.predictions(task.mix(outputs, [0.75, 0.25]))[0].value == pytest.approx(3.0)


@pytest.mark.parametrize("targets", [(), (0.0, 0.0), (-1.0, 2.0)])
def test_what_are_no_counts_are_refused(targets: tuple[float, ...]):
    with pytest.raises(DataError, match="no counts"):
        make_task(dataclasses.replace(SITE, task=TASK), samples(*targets))


def test_a_task_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"unknown task 'juggling'.*\n.*package.module:Class"):
        dataclasses.replace(SITE, task="juggling")
    with pytest.raises(ConfigError, match="cannot import 'my_task:Juggling'"):
        _ = dataclasses.replace(SITE, task="my_task:Juggling").reading
    with pytest.raises(ConfigError, match=r"'math:pi' reads None.*\n.*regression"):
        _ = dataclasses.replace(SITE, task="math:pi").reading
