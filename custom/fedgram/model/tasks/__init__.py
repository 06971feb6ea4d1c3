"""The tasks of a site: what its head learns is the site's own business, and differs from site to site.

A task is one file. One of another package is named by its import path in the site's own file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.config.targets import TaskName, imported_task
from fedgram.errors import ConfigError
from fedgram.model.tasks.base import Task, require_classes
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import Segmentation
from fedgram.records import Sample

__all__ = ["Task", "from_facts", "make_task", "to_facts"]

_TASKS: dict[TaskName, type[Task]] = {
    "classification": Classification,
    "multilabel": MultiLabel,
    "regression": Regression,
    "segmentation": Segmentation,
}
_KINDS = {kind.__name__: kind for kind in _TASKS.values()}


def make_task(config: SiteConfig, train: Sequence[Sample], public: Sequence[str] = ()) -> Task:
    """Make the task that a site file names, with what is known from the training samples.

    With ``[privacy]`` these are not looked at: classes are the ``concepts`` or the targets that the file names,
    else the anchors', and mean and spread of numbers stand in the file.

    Args:
        public: the concepts of the anchors.

    Raises:
        ConfigError: no such task, or fewer than two classes to tell apart.
        DataError: no number to predict, or a mask that cannot be read.
    """
    if config.privacy is not None:
        return _public_task(config, config.privacy.target, public)
    known = {str(name): kind for name, kind in _TASKS.items()}
    kind = known.get(config.task) or imported_task(config.task)
    return kind.fit(train, config.class_weights == "balanced")


def _public_task(config: SiteConfig, numbers: Sequence[float], public: Sequence[str]) -> Task:
    if config.task == "regression":
        return Regression(*numbers)
    if config.task == "multilabel":
        return MultiLabel(tuple(sorted(config.columns.targets)))
    classes = tuple(sorted({*(config.concepts or public)}))
    require_classes(len(classes), 2)
    return Classification(classes)


def to_facts(task: Task) -> dict[str, Any]:
    """Write a task down as plain data."""
    kind = type(task)
    own = _KINDS.get(kind.__name__) is kind
    return {"kind": kind.__name__ if own else f"{kind.__module__}:{kind.__qualname__}", **to_dict(task)}


def from_facts(facts: Mapping[str, Any], where: str) -> Task:
    """Build the task that :func:`to_facts` wrote down.

    Raises:
        ConfigError: not the facts of a task, or one of a package that is no longer here.
    """
    name, settings = str(facts.get("kind")), {k: v for k, v in facts.items() if k != "kind"}
    if name not in _KINDS and ":" not in name:
        raise ConfigError(f"unknown task {name!r}", where=where, expected=", ".join(_KINDS))
    return from_dict(_KINDS.get(name) or imported_task(name), settings, where)
