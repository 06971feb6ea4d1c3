"""What a head's output says in the words of the data, and a task that is written down and read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.model import tasks
from fedgram.model.tasks.base import Task
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import Segmentation


def test_a_class_and_the_probability_of_each():
    answer = Classification(("cat", "dog")).predictions(torch.tensor([[0.0, 2.0]]))[0]
    assert answer.value == "dog"
    assert answer.scores == pytest.approx({"cat": 0.119203, "dog": 0.880797}, abs=1e-5)


def test_the_labels_above_one_half():
    answers = MultiLabel(("a", "b", "c")).predictions(torch.tensor([[1.0, -1.0, 0.1], [-1.0, -1.0, -1.0]]))
    assert [answer.value for answer in answers] == [("a", "c"), ()]
    assert answers[0].scores["b"] == pytest.approx(0.268941, abs=1e-5)


def test_a_number_in_the_unit_of_the_data():
    assert Regression(70.0, 10.0).predictions(torch.tensor([[0.5], [-1.0]])) == [
        tasks.base.Prediction(75.0),
        tasks.base.Prediction(60.0),
    ]


def test_a_mask_with_the_pixel_values_of_the_sites_own():
    logits = torch.zeros(1, 3, 2, 2)
    logits[0, 2, 0, 1] = logits[0, 1, 1, 0] = 1.0
    mask = Segmentation((0, 7, 255)).predictions(logits)[0].value
    assert isinstance(mask, np.ndarray)
    assert mask.tolist() == [[0, 255], [7, 0]]


@pytest.mark.parametrize(
    "task",
    [
        Classification(("a", "b"), (1.0, 2.0)),
        MultiLabel(("a",)),
        Regression(1.5, 0.1),
        Segmentation((0, 255), (0.5, 2.0)),
    ],
)
def test_a_task_is_the_same_after_it_was_written(task: Task):
    assert tasks.from_facts(json.loads(json.dumps(tasks.to_facts(task))), "test") == task


def test_what_is_no_task_is_refused():
    with pytest.raises(ConfigError, match="unknown task 'Juggling'"):
        tasks.from_facts({"kind": "Juggling"}, "test")
    with pytest.raises(ConfigError, match="missing setting 'std'"):
        tasks.from_facts({"kind": "Regression", "mean": 1.0}, "test")
