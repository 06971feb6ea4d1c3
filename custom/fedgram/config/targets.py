"""The kinds of targets that a site's data can have, and the one that a task learns from."""

from __future__ import annotations

from typing import Any, Literal, get_args

from fedgram.config.strict import imported
from fedgram.errors import ConfigError

TaskName = Literal["classification", "multilabel", "regression", "segmentation"]


def require_task(task: str) -> None:
    """Raise ConfigError for what is neither a known task nor the import path of one."""
    if task not in get_args(TaskName) and not all(task.partition(":")):
        expected = f"{', '.join(get_args(TaskName))}, or package.module:Class"
        raise ConfigError(f"unknown task {task!r}", where="task", expected=expected)


def targets_of(task: str) -> TaskName:
    """Find the kind of targets that a task learns from: its own name, or what a class of another package says.

    Raises:
        ConfigError: not a task, or a class that does not say which targets it ``reads``.
    """
    kind = task if task in get_args(TaskName) else getattr(imported_task(task), "reads", None)
    for name in get_args(TaskName):
        if kind == name:
            return name
    raise ConfigError(f"{task!r} reads {kind!r}", where="task", expected=", ".join(get_args(TaskName)))


def imported_task(path: str) -> Any:
    """Import the task of another package, which the site's own file names as ``package.module:Class``.

    Raises:
        ConfigError: not such a path, or nothing is there.
    """
    require_task(path)
    return imported(path, "task")
