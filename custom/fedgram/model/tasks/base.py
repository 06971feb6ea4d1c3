"""What a site's head does: a task is a head, a loss and metrics, and the site's own business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from fedgram.modalities.base import Tokenizer
from fedgram.model.site_model import masked_mean
from fedgram.records import Sample


@dataclass(frozen=True)
class Prediction:
    """What a site's head says of one content.

    Attributes:
        value: the class; the labels above one half; the number, in the unit of the data; or the class of each
            pixel, (H, W), as the encoder sees the image.
        scores: the probability of each class, where there are classes of the whole content.
    """

    value: str | tuple[str, ...] | float | np.ndarray
    scores: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """A task over token representations. Targets are one tensor with a row per sample."""

    def head(self, width: int, length: int, generator: torch.Generator) -> nn.Module:
        """The local head; maps hidden (N, L, d) and mask (N, L) to the output.

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
        """Scalar training loss."""
        ...

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """Numbers by name; one that is not defined on these samples is left out."""
        ...

    def predictions(self, output: Tensor) -> list[Prediction]:
        """The head's output in the words of the data."""
        ...


class PooledHead(nn.Linear):
    """A linear map of z, the mean over the tokens: (N, L, d), (N, L) → (N, out)."""

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return super().forward(masked_mean(hidden, mask))


def start_small(head: nn.Linear, generator: torch.Generator) -> None:
    """Initial weights of size 1/√d, so that the first gradients are those of the representation."""
    with torch.no_grad():
        head.weight.copy_(torch.randn(head.weight.shape, generator=generator) * head.in_features**-0.5)
        head.bias.zero_()


def pooled_head(width: int, outputs: int, generator: torch.Generator) -> PooledHead:
    """A :class:`PooledHead` that starts small."""
    head = PooledHead(width, outputs)
    start_small(head, generator)
    return head
