"""The task of one number a sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import fedgram.model.tasks.metrics as metrics
from fedgram.errors import DataError
from fedgram.modalities.base import Tokenizer
from fedgram.model.tasks.base import Prediction, pooled_head
from fedgram.records import Sample

_ROUNDED = 0.01  # of the spread: targets are float32, and may be off by no more


@dataclass(frozen=True)
class Regression:
    """The task of one number a sample; the head gives it in units of the training samples' spread.

    Attributes:
        mean, std: of the training targets.
    """

    mean: float
    std: float

    @classmethod
    def fit(cls, train: Sequence[Sample], balanced: bool) -> Regression:
        numbers = np.array([number_of(sample) for sample in train])
        if numbers.size == 0 or np.ptp(numbers) == 0:
            problem = "the same number for all training samples"
            raise DataError(problem, where="target", remedy="name another column")
        mean, std = float(numbers.mean()), float(numbers.std())
        with np.errstate(over="ignore", under="ignore"):
            rounded = numbers.astype(np.float32)
        if np.abs(rounded - numbers).max() > _ROUNDED * std:
            raise DataError(
                f"numbers around {mean:g} that differ by {std:g}: single precision rounds their differences away",
                where="target",
                remedy="take another origin or unit: days since 2020, not seconds since 1970",
            )
        return cls(mean, std)

    def head(self, width: int, length: int, generator: torch.Generator) -> nn.Module:
        return pooled_head(width, 1, generator)

    def targets(self, samples: Sequence[Sample], tokenizer: Tokenizer) -> Tensor:
        """Encode numbers as (N,), in the unit of the data."""
        return torch.tensor([number_of(s) for s in samples])

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean squared error of (N, 1), standardised."""
        return F.mse_loss(output[:, 0], (targets - self.mean) / self.std)

    def metrics(self, output: Tensor, targets: Tensor) -> dict[str, float]:
        """MAE in the unit of the data, and R²; neither is defined for a model that has diverged."""
        truth = targets.double().cpu().numpy()
        predicted = (self.mean + self.std * output[:, 0].double()).cpu().numpy()
        if not np.isfinite(predicted).all():
            return {}
        return metrics.defined({"mae": metrics.mae(truth, predicted), "r2": metrics.r2(truth, predicted)})

    def predictions(self, output: Tensor) -> list[Prediction]:
        return [Prediction(self.mean + self.std * value) for value in output[:, 0].double().tolist()]

    def mix(self, outputs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
        """Average the numbers: Σ w output, (N, 1)."""
        return torch.stack([w * output for w, output in zip(weights, outputs, strict=True)]).sum(0)


def number_of(sample: Sample) -> float:
    """The number of a sample; raises DataError for one that has none."""
    if not isinstance(sample.target, float):
        raise DataError("no number to predict", where=sample.source, remedy="name its column as `target`")
    return sample.target
