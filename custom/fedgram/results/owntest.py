"""A site's own test samples, answered by home, by the federation's model and by what the site keeps.

For where the result of the site lies: nothing here is sent. Intervals are bootstraps over groups of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from fedgram.core.bootstrap import by_group, interval, resampled
from fedgram.model.tasks.base import mixed
from fedgram.model.tasks.labels import Classification
from fedgram.records import LabelledTokens
from fedgram.sites.kept import lent, read_facts, read_trained
from fedgram.sites.settled import DIRECTORY, FROZEN, HOME, TOGETHER, read_settled
from fedgram.sites.single import SingleSite, own_samples
from fedgram.training.directory import answerable, logits

KEPT = "kept"
Interval = tuple[float, float] | None


@dataclass(frozen=True)
class WithInterval:
    """A figure on test samples, and its 95 % interval over their groups; None with fewer than two groups."""

    value: float
    interval: Interval


@dataclass(frozen=True)
class OwnTest:
    """A site's models on its own test samples.

    Attributes:
        site: its name.
        classes: C, sorted.
        groups: the number of groups that were tested.
        confusion: (C, C) counts by model: true class by named class.
        accuracy, macro_f1: by model.
    """

    site: str
    classes: tuple[str, ...]
    groups: int
    confusion: Mapping[str, list[list[int]]]
    accuracy: Mapping[str, WithInterval]
    macro_f1: Mapping[str, WithInterval]


def own_test(site: SingleSite, result: Path) -> OwnTest | None:
    """Ask a site's models about its test samples; None where the task has no classes or nothing is tested.

    Args:
        result: its folder, beside which ``alone`` may lie.
    """
    if not isinstance(site.task, Classification):
        return None
    data = own_samples(site, "test")
    if not len(data):
        return None
    counts = {name: _counts(output, data, len(site.task.classes)) for name, output in _answers(site, result, data)}
    return OwnTest(
        site=site.name,
        classes=site.task.classes,
        groups=len(set(data.groups)),
        confusion={name: part.sum(0).long().tolist() for name, part in counts.items()},
        accuracy={name: figure(part, accuracy) for name, part in counts.items()},
        macro_f1={name: figure(part, macro_f1) for name, part in counts.items()},
    )


def _answers(site: SingleSite, result: Path, data: LabelledTokens) -> list[tuple[str, Tensor]]:
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
    return [*found.items()]


def _counts(output: Tensor, data: LabelledTokens, classes: int) -> Tensor:
    """Count samples by group, true class and named class, (G, C, C)."""
    truth, named = (F.one_hot(labels.cpu(), classes) for labels in (data.targets, output.argmax(1)))
    return by_group(truth[:, :, None] * named[:, None, :], list(data.groups))


def accuracy(counts: Tensor) -> Tensor:
    """The share of right answers, (…), of (…, C, C) counts."""
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1) / counts.sum((-2, -1))


def macro_f1(counts: Tensor) -> Tensor:
    """The mean over the classes that occur of F1 = 2 TP / (2 TP + FP + FN), (…), of (…, C, C) counts."""
    right, either = counts.diagonal(dim1=-2, dim2=-1), counts.sum(-1) + counts.sum(-2)
    scores = torch.where(either > 0, 2 * right / either.clamp(min=1), float("nan"))
    return scores.nanmean(-1)


def figure(parts: Tensor, measure: Callable[[Tensor], Tensor]) -> WithInterval:
    """Measure a sum of parts (G, …), and how far that varies with the groups that are drawn."""
    value = measure(parts.sum(0)).item()
    return WithInterval(value, interval(measure(resampled(parts))) if len(parts) > 1 else None)


def share(right: Sequence[bool], groups: Sequence[str]) -> WithInterval:
    """The share of answers that are right, with its interval over groups."""
    pairs = torch.tensor([[float(r), 1.0] for r in right], dtype=torch.float64)
    return figure(by_group(pairs, list(groups)), lambda sums: sums[..., 0] / sums[..., 1])
