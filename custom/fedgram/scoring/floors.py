"""Floors: scores that a site has without any training of its model, from frozen tokens by scikit-learn.

A sample is the mean of the frozen tokens that are there, standardised by the samples that a model learns from.
What a model leaves open is chosen on the validation samples; without any it is the middle of what is tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from fedgram.model.tasks import Task, metrics
from fedgram.model.tasks.labels import Classification
from fedgram.model.tasks.regression import Regression
from fedgram.records import LabelledTokens
from fedgram.scoring.frozen import frozen

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)  # C of a logistic regression, 1/α of a ridge regression
NEIGHBOURS = (1, 3, 5, 11)
FLOORED = (Classification, Regression)  # tasks that have floors


def floors(task: Task, data: Mapping[str, LabelledTokens], anchors: LabelledTokens | None) -> dict[str, float]:
    """Score the floors of a site on its test samples: accuracy, or the mean absolute error of numbers.

    ``frozen_lr`` is logistic or ridge regression, ``frozen_knn`` the k nearest by cosine, ``own_anchors`` the
    nearest class mean of the site's own anchors, without any other sample. One that is not defined is left out.

    Args:
        data: by split; both of the first learn from ``fit``, anchors that count as samples included.
        anchors: those alone; None where no anchor is of a class of the task.

    Returns:
        The floors, and ``test_samples`` and ``test_groups``: their numbers.
    """
    test = data["test"]
    found = {"test_samples": float(len(test)), "test_groups": float(len(set(test.groups)))}
    if len(test):
        asked = _features(test)
        models = fitted_floors(task, data["fit"], data["validation"], anchors)
        found |= {name: _score(task, model, *asked) for name, model in models.items()}
    return found


def fitted_floors(
    task: Task, fit: LabelledTokens, validation: LabelledTokens, anchors: LabelledTokens | None
) -> dict[str, Pipeline]:
    """Fit the floors of a task, by the names of :func:`floors`; none of a task without classes or numbers."""
    if not isinstance(task, FLOORED):
        return {}
    models = {"frozen_lr": frozen_linear(task, fit, validation), "frozen_knn": _nearest(task, fit, validation)}
    if anchors is not None and len(anchors.targets.unique()) > 1:
        models["own_anchors"] = nearest_mean(*_features(anchors))
    return models


def frozen_linear(task: Task, fit: LabelledTokens, validation: LabelledTokens) -> Pipeline:
    """Fit a logistic regression, or a ridge regression to numbers, of the strength that validates best."""
    return _best(task, [regression(task, strength) for strength in STRENGTHS], fit, validation)


def regression(task: Task, strength: float) -> Any:
    """A logistic regression, or a ridge regression to numbers; the penalty is weaker the larger the strength."""
    if isinstance(task, Regression):
        return Ridge(alpha=1 / strength)
    return LogisticRegression(C=strength, max_iter=1000)


def fitted(model: Any, x: np.ndarray, y: np.ndarray) -> Pipeline:
    """Fit a model to standardised features, (N, d_m), and targets, (N,)."""
    with warnings.catch_warnings():  # a separable site's weights grow until the last iteration, which is no harm
        warnings.simplefilter("ignore", ConvergenceWarning)
        return make_pipeline(StandardScaler(), model).fit(x, y)


def nearest_mean(x: np.ndarray, classes: np.ndarray) -> Pipeline:
    """Name by the nearest mean of a class, which one sample is enough for (scikit-learn's own wants more).

    Args:
        x: (N, d_m).
        classes: (N,), of these samples.
    """
    scaler, names = StandardScaler().fit(x), np.unique(classes)
    means = scaler.transform(np.stack([x[classes == name].mean(0) for name in names]))
    return make_pipeline(scaler, KNeighborsClassifier(1).fit(means, names))


def _nearest(task: Task, fit: LabelledTokens, validation: LabelledTokens) -> Pipeline:
    kind = KNeighborsRegressor if isinstance(task, Regression) else KNeighborsClassifier
    return _best(task, [kind(k, metric="cosine") for k in NEIGHBOURS if k <= len(fit)], fit, validation)


def _best(task: Task, models: Sequence[Any], fit: LabelledTokens, validation: LabelledTokens) -> Pipeline:
    """Choose the model that validates best, the first of those that are as good."""
    learnt, asked = _features(fit), _features(validation)
    if not len(validation):
        return fitted(models[len(models) // 2], *learnt)
    tried = [fitted(model, *learnt) for model in models]
    scores = [metrics.gain(_metric(task), 0.0, _score(task, model, *asked)) for model in tried]
    return tried[int(np.argmax(scores))]


def _features(part: LabelledTokens) -> tuple[np.ndarray, np.ndarray]:
    return frozen(part.tokens), part.targets.cpu().numpy()


def _metric(task: Task) -> str:
    return "mae" if isinstance(task, Regression) else "accuracy"


def _score(task: Task, model: Pipeline, x: np.ndarray, y: np.ndarray) -> float:
    measure = metrics.mae if isinstance(task, Regression) else metrics.accuracy
    return measure(y, np.asarray(model.predict(x)))
