"""A site's answer without any training of its model: a linear map of frozen tokens, chosen by validation."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from fedgram.model.tasks import Task
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.records import LabelledTokens
from fedgram.scoring.floors import STRENGTHS
from fedgram.scoring.frozen import FrozenLinear, frozen

_NEVER = -100.0  # the logit of a class without a training sample

Rows = tuple[np.ndarray, np.ndarray]  # (C, d_m) and (C,): a map, of standardised features


def fit_frozen_linear(task: Task, fit: LabelledTokens, validation: LabelledTokens) -> FrozenLinear | None:
    """Fit logistic regressions, or ridge regressions to numbers, and take the one of least validation loss.

    Penalties become weaker until that loss rises; weaker ones still would take longest. None for tasks of other
    kinds, without a validation sample, or where all training samples are of one class.
    """
    targets = fit.targets.cpu().numpy()
    if not isinstance(task, Classification | MultiLabel | Regression) or not len(validation):
        return None
    if isinstance(task, Classification) and len(np.unique(targets)) < 2:
        return None
    scaler: Any = StandardScaler()
    found = None
    with threadpool_limits(1):  # as many threads everywhere: the same sums, bit for bit
        x = scaler.fit_transform(frozen(fit.tokens))
        lowest = float("inf")
        for weight, bias in _maps(task, x, targets):
            weight = weight / scaler.scale_
            model = FrozenLinear(*(torch.from_numpy(v).float() for v in (weight, bias - weight @ scaler.mean_)))
            loss = task.loss(model(validation.tokens), validation.targets.cpu()).item()
            if loss >= lowest:
                break
            found, lowest = model, loss
    return found


def _maps(task: Classification | MultiLabel | Regression, x: np.ndarray, y: np.ndarray) -> Iterator[Rows]:
    """One map of standardised features for each strength, the strongest penalty first."""
    for strength in STRENGTHS:
        if isinstance(task, Regression):
            ridge = Ridge(alpha=1 / strength).fit(x, (y - task.mean) / task.std)
            yield ridge.coef_[None], np.array([ridge.intercept_])
        elif isinstance(task, MultiLabel):
            labels = [_label(x, column, strength) for column in y.T]
            yield np.stack([weight for weight, _ in labels]), np.array([bias for _, bias in labels])
        else:
            yield _classes(x, y, strength, len(task.classes))


def _classes(x: np.ndarray, y: np.ndarray, strength: float, classes: int) -> Rows:
    model = _logistic(x, y, strength)
    weight, bias = np.zeros((classes, x.shape[1])), np.full(classes, _NEVER)
    if len(model.classes_) == 2:  # one row, of the second class against the first
        bias[model.classes_[0]] = 0.0
        weight[model.classes_[1]], bias[model.classes_[1]] = model.coef_[0], model.intercept_[0]
    else:
        weight[model.classes_], bias[model.classes_] = model.coef_, model.intercept_
    return weight, bias


def _label(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, float]:
    """The map of one label; of one that all samples have, or none, its odds with half a sample on each side."""
    if len(np.unique(y)) < 2:
        return np.zeros(x.shape[1]), float(np.log((y.sum() + 0.5) / (len(y) - y.sum() + 0.5)))
    model = _logistic(x, y, strength)
    return model.coef_[0], float(model.intercept_[0])


def _logistic(x: np.ndarray, y: np.ndarray, strength: float) -> LogisticRegression:
    with warnings.catch_warnings():  # a separable site's weights grow until the last iteration, which is no harm
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=1000).fit(x, y)
