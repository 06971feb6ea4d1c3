"""Tasks of classes: one a sample, or any number of labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedgram.model.tasks.metrics as metrics
from fedgram.core.mixture import mix_logs
from fedgram.errors import DataError
from fedgram.modalities.base import Tokenizer
from fedgram.model.tasks.base import Prediction, pooled_head, require_classes
from fedgram.records import Sample

_LARGEST_WEIGHT = 100.0  # of a rare label against the rest: a handful of samples must not drown all others


@dataclass(frozen=True)
class Classification:
    """The task of one class a sample.

    Attributes:
        classes: C names, sorted.
        weights: of each class in the loss; all the same when empty.
    """

    classes: tuple[str, ...]
    weights: tuple[float, ...] = ()

    @classmethod
    def fit(cls, train: Sequence[Sample], balanced: bool) -> Classification:
        labels, classes = _labels(train)
        require_classes(len(classes), 2)
        return cls(classes, class_weights(labels, classes) if balanced else ())

    def head(self, width: int, length: int, generator: torch.Generator) -> nn.Module:
        return pooled_head(width, len(self.classes), generator)

    def targets(self, samples: Sequence[Sample], tokenizer: Tokenizer) -> Tensor:
        """Encode classes as indices, (N,)."""
        return torch.tensor([index_of(s.labels[0], self.classes, s) for s in samples], dtype=torch.long)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of (N, C) logits."""
        weights = output.new_tensor(self.weights) if self.weights else None
        return F.cross_entropy(output, targets, weights)

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy, macro-F1, and AUROC of each class against the rest."""
        truth, predicted = targets.cpu().numpy(), output.argmax(1).cpu().numpy()
        one_hot = F.one_hot(targets, len(self.classes)).bool().cpu().numpy()
        return metrics.defined(
            {
                "accuracy": metrics.accuracy(truth, predicted),
                "macro_f1": metrics.macro_f1(truth, predicted),
                "auroc": metrics.auroc(one_hot, output.softmax(1).cpu().numpy()),
            }
        )

    def predictions(self, output: Tensor) -> list[Prediction]:
        rows = output.float().softmax(1).tolist()
        scores = [dict(zip(self.classes, row, strict=True)) for row in rows]
        return [Prediction(max(row, key=row.__getitem__), row) for row in scores]

    def mix(self, outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average the probabilities: log Σ w softmax, (N, C)."""
        return mix_logs([output.log_softmax(1) for output in outputs], weights)


@dataclass(frozen=True)
class MultiLabel:
    """The task of any number of labels a sample, none included.

    Attributes:
        classes: C labels, sorted.
        weights: of a sample that has the label, against one that has not; all 1 when empty.
    """

    classes: tuple[str, ...]
    weights: tuple[float, ...] = ()

    @classmethod
    def fit(cls, train: Sequence[Sample], balanced: bool) -> MultiLabel:
        labels, classes = _labels(train)
        require_classes(len(classes), 1)
        return cls(classes, label_weights(labels, classes) if balanced else ())

    def head(self, width: int, length: int, generator: torch.Generator) -> nn.Module:
        return pooled_head(width, len(self.classes), generator)

    def targets(self, samples: Sequence[Sample], tokenizer: Tokenizer) -> Tensor:
        """Encode labels as (N, C), 1 where a sample has a label."""
        targets = torch.zeros(len(samples), len(self.classes))
        for row, sample in enumerate(samples):
            for label in sample.labels:
                targets[row, index_of(label, self.classes, sample)] = 1.0
        return targets

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Binary cross-entropy of (N, C) logits."""
        weights = output.new_tensor(self.weights) if self.weights else None
        return F.binary_cross_entropy_with_logits(output, targets, pos_weight=weights)

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Macro-F1 at a probability of ½, and AUROC."""
        truth, scores = targets.bool().cpu().numpy(), output.cpu().numpy()
        return metrics.defined(
            {"macro_f1": metrics.macro_f1(truth, scores > 0), "auroc": metrics.auroc(truth, scores)}
        )

    def predictions(self, output: Tensor) -> list[Prediction]:
        rows = output.float().sigmoid().tolist()
        scores = [dict(zip(self.classes, row, strict=True)) for row in rows]
        return [Prediction(tuple(c for c in self.classes if row[c] > 0.5), row) for row in scores]

    def mix(self, outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average the probabilities: the logit of Σ w sigmoid, (N, C)."""
        present, absent = ([F.logsigmoid(sign * output) for output in outputs] for sign in (1, -1))
        return mix_logs(present, weights) - mix_logs(absent, weights)


def _labels(train: Sequence[Sample]) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """The labels of each sample, and the classes among them, sorted."""
    labels = [sample.labels for sample in train]
    return labels, tuple(sorted({label for present in labels for label in present}))


def index_of(label: str, classes: Sequence[str], sample: Sample) -> int:
    """The index of a label; raises DataError for one that no training sample has."""
    if label not in classes:
        raise DataError(
            f"label {label!r} has no training sample",
            where=sample.source or None,
            expected=", ".join(classes),
            remedy="move some of its samples (all of a patient) to the training split, or leave the label out",
        )
    return classes.index(label)


def class_weights(labels: Sequence[tuple[str, ...]], classes: Sequence[str]) -> tuple[float, ...]:
    """Weights N / (C n_c), by which every class counts the same in the loss."""
    counts = [sum(c in present for present in labels) for c in classes]
    return tuple(len(labels) / (len(classes) * count) for count in counts)


def label_weights(labels: Sequence[tuple[str, ...]], classes: Sequence[str]) -> tuple[float, ...]:
    """Weights (N − n_c) / n_c, by which having a label counts as much as not having it."""
    counts = [sum(c in present for present in labels) for c in classes]
    return tuple(min(_LARGEST_WEIGHT, max(len(labels) - count, 1) / count) for count in counts)
