"""The tasks of a site: a head, its loss and its metrics, which may differ from site to site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.errors import ConfigError, DataError
from fedgram.model.tasks.base import Task
from fedgram.model.tasks.labels import Classification, MultiLabel, class_weights, label_weights
from fedgram.model.tasks.regression import Regression, number_of
from fedgram.model.tasks.segmentation import Segmentation, pixel_counts
from fedgram.records import Sample

__all__ = ["Task", "from_facts", "make_task", "to_facts"]


def make_task(config: SiteConfig, train: Sequence[Sample]) -> Task:
    """Make the task that a site file names, with all that it has to know of the training samples.

    Raises:
        ConfigError: fewer than two classes to tell apart.
        DataError: no number to predict, or a mask that cannot be read.
    """
    balanced = config.class_weights == "balanced"
    if config.task == "regression":
        return _regression(train)
    if config.task == "segmentation":
        return _segmentation(train, balanced)
    labels = [sample.labels for sample in train]
    classes = tuple(sorted({label for present in labels for label in present}))
    if config.task == "multilabel":
        _require_classes(len(classes), 1)
        return MultiLabel(classes, label_weights(labels, classes) if balanced else ())
    _require_classes(len(classes), 2)
    return Classification(classes, class_weights(labels, classes) if balanced else ())


_KINDS = {kind.__name__: kind for kind in (Classification, MultiLabel, Regression, Segmentation)}


def to_facts(task: Task) -> dict[str, Any]:
    """Write a task down as plain data."""
    return {"kind": type(task).__name__, **to_dict(task)}


def from_facts(facts: Mapping[str, Any], where: str) -> Task:
    """Build the task that :func:`to_facts` wrote down.

    Raises:
        ConfigError: not the facts of a task.
    """
    kind, settings = _KINDS.get(str(facts.get("kind"))), {k: v for k, v in facts.items() if k != "kind"}
    if kind is None:
        raise ConfigError(f"unknown task {facts.get('kind')!r}", where=where, expected=", ".join(_KINDS))
    return from_dict(kind, settings, where)


def _regression(train: Sequence[Sample]) -> Task:
    numbers = np.array([number_of(sample) for sample in train])
    if numbers.size == 0 or np.ptp(numbers) == 0:
        raise DataError("the same number for all training samples", where="target", remedy="name another column")
    return Regression(float(numbers.mean()), float(numbers.std()))


def _segmentation(train: Sequence[Sample], balanced: bool) -> Task:
    counts = pixel_counts(train)
    _require_classes(len(counts), 2)
    classes = tuple(counts)
    total = sum(counts.values())
    return Segmentation(classes, tuple(total / (len(classes) * counts[c]) for c in classes) if balanced else ())


def _require_classes(count: int, least: int) -> None:
    if count < least:
        raise ConfigError(f"{count} class{'es' * (count != 1)}", where="target", expected=f"at least {least}")
