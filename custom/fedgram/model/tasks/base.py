"""The protocol of a task, which is a head, a loss and metrics, and the site's own business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedgram.errors import ConfigError
from fedgram.modalities.base import Tokenizer
from fedgram.model.site_model import masked_mean
from fedgram.records import Sample


@dataclass(frozen=True)
class Prediction:
    """A head's answer for one content.

    Attributes:
        value: the class; the labels above one half; the number, in the unit of the data; or the class of each
            pixel, (H, W), as the encoder sees the image.
        scores: the probability of each class, where there are classes of the whole content.
    """

    value: str | tuple[str, ...] | float | np.ndarray
    scores: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """A task over token representations, with its targets in one tensor of a row per sample.

    A task is a frozen dataclass, whose fields are what it knows from the training samples. One of another package
    has ``reads``: the task whose targets it learns from, ``"regression"`` for numbers. It needs all methods below.
    """

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]  # what makes it a dataclass

    @classmethod
    def fit(cls, train: Sequence[Sample], balanced: bool) -> Task:
        """Make the task for a site's training samples.

        Args:
            balanced: whether every class is to count the same in the loss.

        Raises:
            ConfigError: fewer classes than it needs.
            DataError: targets that it cannot learn from.
        """
        ...

    def head(self, width: int, length: int, generator: torch.Generator) -> nn.Module:
        """Make the local head, which maps hidden (N, L, d) and mask (N, L) to the output.

        Args:
            width: d.
            length: L.
            generator: of the initial weights.
        """
        ...

    def targets(self, samples: Sequence[Sample], tokenizer: Tokenizer) -> Tensor:
        """Encode the targets of samples."""
        ...

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """The training loss, a scalar."""
        ...

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics by name; one that is not defined on these samples is left out."""
        ...

    def predictions(self, output: Tensor) -> list[Prediction]:
        """Put the head's output into the words of the data."""
        ...

    def mix(self, outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average what several heads say, and give it as one output that loss, metrics and predictions take.

        Args:
            outputs: of the same samples, one of each head.
            weights: of each head, positive; they sum to 1.
        """
        ...


def mixed(task: Task, outputs: Mapping[str, Tensor], weights: Mapping[str, float]) -> Tensor:
    """The output of a mixture of heads by name; one with weight 0 takes no part, and needs not be finite."""
    used = [name for name, weight in weights.items() if weight > 0]
    if len(used) == 1:
        return outputs[used[0]]
    return task.mix([outputs[name] for name in used], [weights[name] for name in used])


def require_classes(count: int, least: int) -> None:
    """Raise ConfigError where there are fewer classes than a task needs."""
    if count < least:
        raise ConfigError(f"{count} class{'es' * (count != 1)}", where="target", expected=f"at least {least}")


class PooledHead(nn.Linear):
    """A linear map of z, the mean over the tokens: (N, L, d), (N, L) → (N, out)."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:  # pyrefly: ignore[bad-override]
        return super().forward(masked_mean(hidden, mask))


def start_small(head: nn.Linear, generator: torch.Generator) -> None:
    """Give initial weights the size 1/√d, so that the first gradients are those of the representation."""
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * head.in_features**-0.5)
        head.bias.zero_()


def pooled_head(width: int, outputs: int, generator: torch.Generator) -> PooledHead:
    """Make a :class:`PooledHead` that starts small."""
    head = PooledHead(width, outputs)
    start_small(head, generator)
    return head
