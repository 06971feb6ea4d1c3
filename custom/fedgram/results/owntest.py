"""A site's own test samples, answered by home, by the federation's model, by what the site keeps, and by floors.

For where the result of the site lies: nothing here is sent.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from sklearn.pipeline import Pipeline
from torch import Tensor
from torch.nn import functional as F

from fedgram.core.bootstrap import by_group
from fedgram.model.tasks import Task
from fedgram.model.tasks.base import mixed
from fedgram.model.tasks.labels import Classification, MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.model.tasks.segmentation import Segmentation, confusions
from fedgram.records import LabelledTokens
from fedgram.results.intervals import WithInterval, figure, ratio
from fedgram.scoring.frozen import frozen
from fedgram.sites.kept import lent, read_facts, read_trained
from fedgram.sites.settled import DIRECTORY, FROZEN, HOME, TOGETHER, read_settled
from fedgram.sites.single import SingleSite, own_samples
from fedgram.training.directory import answerable, logits

KEPT = "kept"
Measure = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class OwnTest:
    """A site's models and floors on its own test samples.

    Attributes:
        site: its name.
        classes: C, sorted; none where the task is not to name one of them.
        groups: the number of groups that were tested.
        confusion: (C, C) counts by model: true class by named class.
        figures: by metric, and then by model or floor.
    """

    site: str
    classes: tuple[str, ...]
    groups: int
    confusion: Mapping[str, list[list[int]]]
    figures: Mapping[str, Mapping[str, WithInterval]]


def own_test(site: SingleSite, result: Path, floors: Mapping[str, Pipeline]) -> OwnTest | None:
    """Ask a site's models and floors about its test samples; None where nothing is tested, or the task is another.

    Args:
        result: its folder, beside which ``alone`` may lie.
        floors: see :func:`~fedgram.scoring.floors.fitted_floors`.
    """
    data = own_samples(site, "test")
    if not len(data):
        return None
    answers = _answers(site, result, data)
    x = frozen(data.tokens)
    answers |= {name: _as_output(site.task, np.asarray(model.predict(x))) for name, model in floors.items()}
    figures: dict[str, dict[str, WithInterval]] = {}
    confusion = {}
    for name, output in answers.items():
        if (found := parts(site.task, output, data.targets.cpu())) is None:
            return None
        counted, measures = by_group(found[0], list(data.groups)), found[1]
        for label, measure in measures.items():
            figures.setdefault(label, {})[name] = figure(counted, measure)
        if isinstance(site.task, Classification):
            confusion[name] = counted.sum(0).long().tolist()
    classes = site.task.classes if isinstance(site.task, Classification) else ()
    return OwnTest(site.name, classes, len(set(data.groups)), confusion, figures)


def _answers(site: SingleSite, result: Path, data: LabelledTokens) -> dict[str, Tensor]:
    settled = read_settled(result, read_facts(result)[0])
    alone, found = result.parent / "alone", {TOGETHER: site.outputs(data.tokens)}
    if (alone / "site.json").is_file():
        with lent(site, read_trained(alone), alone):
            found = {HOME: site.outputs(data.tokens), **found}
    if settled.directory is not None and answerable(site, settled.directory):
        found[DIRECTORY] = logits(site, settled.directory, data.tokens)
    if settled.frozen is not None:
        found[FROZEN] = settled.frozen(data.tokens)
    if all(name in found for name, weight in settled.kept.weights.items() if weight > 0):
        found[KEPT] = mixed(site.task, found, settled.kept.weights)
    return found


def _as_output(task: Task, answers: np.ndarray) -> Tensor:
    """Encode classes or numbers as the output of a head that would answer with them, (N, C)."""
    if isinstance(task, Classification):
        return F.one_hot(torch.as_tensor(answers).long(), len(task.classes)).double()
    if isinstance(task, Regression):
        return (torch.as_tensor(answers).double()[:, None] - task.mean) / task.std
    raise TypeError(type(task).__name__)


def parts(task: Task, output: Tensor, targets: Tensor) -> tuple[Tensor, Mapping[str, Measure]] | None:
    """Split the task's figures into what each sample adds to a sum, (N, …), and measures of the sum.

    None for a task of another package.
    """
    if isinstance(task, Classification):
        truth, named = (F.one_hot(labels, len(task.classes)) for labels in (targets, output.argmax(1)))
        return truth[:, :, None] * named[:, None, :], {"accuracy": accuracy, "macro-F1": macro_f1}
    if isinstance(task, Regression):
        wrong = (targets.double() - task.mean - task.std * output[:, 0].double()).abs()
        return torch.stack([wrong, torch.ones_like(wrong)], 1), {"mae ↓": ratio}
    if isinstance(task, MultiLabel):
        truth, named = targets.bool(), output > 0
        return torch.stack([truth & named, truth ^ named], 2), {"macro-F1": _of_labels}
    if isinstance(task, Segmentation):
        return confusions(output, targets, len(task.classes)), {"dice": dice}
    return None


def accuracy(counts: Tensor) -> Tensor:
    """The share of right answers, (…), of (…, C, C) counts."""
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1) / counts.sum((-2, -1))


def macro_f1(counts: Tensor) -> Tensor:
    """The mean over the classes that occur of F1, (…), of (…, C, C) counts."""
    return _f1(*_right_and_wrong(counts)).nanmean(-1)


def dice(counts: Tensor) -> Tensor:
    """The mean Dice, which is F1, of the classes that occur but the first, (…), of (…, C, C) counts of pixels."""
    return _f1(*_right_and_wrong(counts))[..., 1:].nanmean(-1)


def _of_labels(sums: Tensor) -> Tensor:
    """The mean F1 of the labels that occur, (…), of (…, C, 2) counts: right, and wrong or missed."""
    return _f1(sums[..., 0], sums[..., 1]).nanmean(-1)


def _right_and_wrong(counts: Tensor) -> tuple[Tensor, Tensor]:
    right = counts.diagonal(dim1=-2, dim2=-1)
    return right, counts.sum(-1) + counts.sum(-2) - 2 * right


def _f1(right: Tensor, wrong: Tensor) -> Tensor:
    """F1 = 2 TP / (2 TP + FP + FN); not a number where a class does not occur."""
    either = 2 * right + wrong
    return torch.where(either > 0, 2 * right / either.clamp(min=1), float("nan"))
