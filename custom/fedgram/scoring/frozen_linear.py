"""A site's answer without any training of its model: a linear map of frozen tokens, chosen by validation."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from fedgram.model.tasks import Task
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.records import LabelledTokens
from fedgram.scoring.floors import STRENGTHS, fitted, regression
from fedgram.scoring.frozen import FrozenLinear, frozen

_NEVER = -100.0  # the logit of a class without a training sample

Rows = tuple[np.ndarray, np.ndarray]  # (C, d_m) and (C,): a map


def fit_frozen_linear(task: Task, fit: LabelledTokens, validation: LabelledTokens) -> FrozenLinear | None:
    """Fit logistic regressions, or ridge regressions to numbers, and take the one of least validation loss.

    Penalties become weaker until that loss rises; weaker ones still would take longest. None for tasks of other
    kinds, without a validation sample, or where all training samples are of one class.
    """
    x, targets = frozen(fit.tokens), fit.targets.cpu().numpy()
    if not isinstance(task, Classification | MultiLabel | Regression) or not len(validation):
        return None
    if isinstance(task, Classification) and len(np.unique(targets)) < 2:
        return None
    found, lowest = None, float("inf")
    with threadpool_limits(1):  # as many threads everywhere: the same sums, bit for bit
        for strength in STRENGTHS:
            weight, bias = _map(task, x, targets, strength)
            model = FrozenLinear(torch.from_numpy(weight).float(), torch.from_numpy(bias).float())
            loss = task.loss(model(validation.tokens), validation.targets.cpu()).item()
            if loss >= lowest:
                break
            found, lowest = model, loss
    return found


def _map(task: Classification | MultiLabel | Regression, x: np.ndarray, y: np.ndarray, strength: float) -> Rows:
    """The map of one strength to what the head would say."""
    model = regression(task, strength)
    if isinstance(task, Regression):
        weight, bias = _rows(fitted(model, x, (y - task.mean) / task.std))
        return weight[None], np.array([bias])
    if isinstance(task, MultiLabel):
        labels = [_label(x, column, model) for column in y.T]
        return np.stack([weight for weight, _ in labels]), np.array([bias for _, bias in labels])
    learnt = fitted(model, x, y)
    weight, bias = np.zeros((len(task.classes), x.shape[1])), np.full(len(task.classes), _NEVER)
    if len(learnt.classes_) == 2:  # one row, of the second class against the first
        first, second = learnt.classes_
        bias[first] = 0.0
        weight[second], bias[second] = (row[0] for row in _rows(learnt))
    else:
        weight[learnt.classes_], bias[learnt.classes_] = _rows(learnt)
    return weight, bias


def _label(x: np.ndarray, y: np.ndarray, model: Any) -> tuple[np.ndarray, float]:
    """The map of one label; of one that all samples have, or none, its odds with half a sample on each side."""
    if len(np.unique(y)) < 2:
        return np.zeros(x.shape[1]), float(np.log((y.sum() + 0.5) / (len(y) - y.sum() + 0.5)))
    weight, bias = _rows(fitted(model, x, y))
    return weight[0], float(bias[0])


def _rows(learnt: Pipeline) -> Rows:
    """The coefficients of a fitted pipeline, of features that are not standardised."""
    scaler, model = learnt[0], learnt[-1]
    weight = model.coef_ / scaler.scale_
    return weight, model.intercept_ - weight @ scaler.mean_
