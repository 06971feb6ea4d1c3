"""The numbers that tasks report, by scikit-learn and SciPy. A number that is not defined is None.

These are imported when a number is asked for: whoever only answers with a model needs none.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping

import numpy as np

# A site is judged by the first of these that it reports.
MAIN = ("accuracy", "dice", "mae", "macro_f1", "r2", "iou", "auroc", "vqa_accuracy", "geneval", "generation_loss")
LOWER_IS_BETTER = frozenset({"mae", "loss", "task_loss", "understanding_loss", "generation_loss"})


def main_metric(metrics: Iterable[str]) -> str | None:
    """The metric that a site is judged by, among those that it reports."""
    reported = set(metrics)
    return next((name for name in MAIN if name in reported), None)


def gain(name: str, before: float, after: float) -> float:
    """The improvement of a metric: positive is better, whatever its direction."""
    return before - after if name in LOWER_IS_BETTER else after - before


def defined(metrics: Mapping[str, float | None]) -> dict[str, float]:
    """The metrics that are defined on the given samples, without the others."""
    return {name: float(value) for name, value in metrics.items() if value is not None}


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """The share of right classes, (N,) and (N,)."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(truth, predicted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """The mean F1 of the classes that occur, from (N,) classes or (N, C) truth values."""
    from sklearn.metrics import f1_score

    if truth.ndim == 2:  # by hand: scikit-learn takes a single column for two classes, and averages over both
        sizes = truth.sum(axis=0) + predicted.sum(axis=0)
        right, occurs = 2 * (truth & predicted).sum(axis=0), sizes > 0
        return float(np.mean(right[occurs] / sizes[occurs])) if occurs.any() else None
    if truth.size == 0:
        return None
    return float(f1_score(truth, predicted, average="macro", zero_division=0))


def auroc(truth: np.ndarray, scores: np.ndarray) -> float | None:
    """Mean area under the ROC curve, each class against the rest; (N, C) truth values and scores.

    The area is the statistic of Mann and Whitney (Hanley and McNeil 1982), of all classes in one ranking.
    A class that all samples have, or none, has no curve; nor have scores that are not numbers.
    """
    from scipy.stats import rankdata

    positive = truth.sum(axis=0)
    negative = len(truth) - positive
    curves = (positive > 0) & (negative > 0)
    if not curves.any() or np.isnan(scores).any():
        return None
    n, m = positive[curves], negative[curves]
    ranks = (rankdata(scores[:, curves], axis=0) * truth[:, curves]).sum(axis=0)
    return float(np.mean((ranks - n * (n + 1) / 2) / (n * m)))


def mae(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Mean absolute error, in the unit of the target."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(truth, predicted))


def r2(truth: np.ndarray, predicted: np.ndarray) -> float | None:
    """The share of the variance that is explained; below 0 when the mean of the truth would do better."""
    from sklearn.metrics import r2_score

    return float(r2_score(truth, predicted)) if np.ptp(truth) > 0 else None


def confusion(truth: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count pixels by true class and predicted class, (C, C); those of several images add up."""
    from sklearn.metrics import confusion_matrix

    with warnings.catch_warnings():  # an image of one class only is nothing to warn of
        warnings.simplefilter("ignore", UserWarning)
        return confusion_matrix(truth.ravel(), predicted.ravel(), labels=range(classes))


def overlaps(counts: np.ndarray) -> dict[str, float | None]:
    """Dice and IoU, over all pixels, mean of the classes that occur but the first (the background).

    Dice = 2 TP / (2 TP + FP + FN), IoU = TP / (TP + FP + FN): F1 and Jaccard score of the pixels.
    """
    right = np.diag(counts)[1:]
    either = counts.sum(0)[1:] + counts.sum(1)[1:] - right
    occurs = either > 0
    if not occurs.any():
        return {"dice": None, "iou": None}
    right, either = right[occurs], either[occurs]
    return {"dice": float(np.mean(2 * right / (either + right))), "iou": float(np.mean(right / either))}
