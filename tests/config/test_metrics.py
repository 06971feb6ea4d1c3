"""The metrics that a job lets out by default, held against where they are computed."""

from __future__ import annotations

import torch
from fedgram.config.job import METRICS
from fedgram.model.tasks import metrics
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import Segmentation

from research.scenes.words import SKILLS

OF_TRAINING = {"loss", "task_loss", "cka", "seconds", "bridge_loss", "pair_recall"}
OF_WHAT_IS_KEPT = {"kept_home", "kept_together", "kept_directory", "kept_frozen", "gain", "gain_se"}
OF_FLOORS = {"frozen_lr", "frozen_knn", "own_anchors", "test_samples", "test_groups"}
OF_UNIFIED = {"understanding_loss", "generation_loss", "vqa_accuracy", "geneval"}


def of_tasks() -> set[str]:
    """The names of all that a task of fedgram measures."""
    either = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = Classification(("a", "b")).metrics(either, torch.tensor([0, 1])).keys()
    found |= MultiLabel(("a", "b")).metrics(either, either).keys()
    found |= Regression(0.0, 1.0).metrics(either[:, :1], either[:, 0]).keys()
    pixels = torch.tensor([[[0, 1], [1, 0]]], dtype=torch.uint8)
    found |= Segmentation((0, 1)).metrics(torch.stack([1.0 - pixels, 1.0 * pixels], 1), pixels).keys()
    return set(found)


def test_the_default_is_all_that_is_computed_and_nothing_else():
    assert len(of_tasks()) == 7
    assert set(METRICS) == of_tasks() | OF_TRAINING | OF_WHAT_IS_KEPT | OF_FLOORS | OF_UNIFIED | {
        f"geneval_{skill}" for skill in SKILLS
    }
    assert len(set(METRICS)) == len(METRICS)


def test_what_reports_look_at_is_let_out():
    assert {*metrics.MAIN, *metrics.LOWER_IS_BETTER} <= set(METRICS)
