"""What a site's head does: a task is a head, a loss and metrics, and the site's own business."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from sklearn.metrics import accuracy_score, f1_score
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedgram.errors import ConfigError, DataError


class Task(Protocol):
    """A task over representations. Targets are one tensor with a row per sample."""

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """The local head over z (N, width)."""
        ...

    def targets(self, labels: Sequence[str]) -> Tensor:
        """Encode the labels of samples."""
        ...

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Scalar training loss."""
        ...

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Numbers by name."""
        ...


@dataclass(frozen=True)
class Classification:
    """Multi-class classification over a site's own, sorted concepts."""

    classes: tuple[str, ...]

    def head(self, width: int, generator: torch.Generator) -> nn.Module:
        """A linear head that starts small, so that the first gradients are those of the representation."""
        head = nn.Linear(width, len(self.classes))
        with torch.no_grad():
            head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * width**-0.5)
            head.bias.zero_()
        return head

    def targets(self, labels: Sequence[str]) -> Tensor:
        """(N,) class indices.

        Raises:
            DataError: a label that is not a class.
        """
        unknown = sorted(set(labels) - set(self.classes))
        if unknown:
            raise DataError(f"labels {unknown} are not among the classes", expected=", ".join(self.classes))
        return torch.tensor([self.classes.index(label) for label in labels], dtype=torch.long)

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of (N, C) logits."""
        return cross_entropy(output, targets)

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Accuracy and macro-F1."""
        predicted, truth = output.argmax(1).cpu().numpy(), targets.cpu().numpy()
        return {
            "accuracy": float(accuracy_score(truth, predicted)),
            "macro_f1": float(f1_score(truth, predicted, average="macro", zero_division=0)),  # pyright: ignore[reportArgumentType]
        }


def make_task(name: str, concepts: Sequence[str]) -> Task:
    """The task of a site by the name that the job gives.

    Raises:
        ConfigError: unknown name, or too few classes.
    """
    if name != "classification":
        raise ConfigError(f"unknown task {name!r}", expected="classification")
    if len(set(concepts)) < 2:
        raise ConfigError(f"{len(set(concepts))} class", where="concepts", expected="at least 2 to classify")
    return Classification(tuple(sorted(set(concepts))))
