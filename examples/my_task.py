"""Counts (of cells, visits, reads): Poisson regression, a task of one's own in one file."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fedgram.errors import DataError
from fedgram.model.tasks.base import Prediction, pooled_head


@dataclass(frozen=True)
class Counts:
    """The task of one count a sample; the head gives the logarithm of its rate.

    Attributes:
        rate: the mean of the training samples, from which the head starts.
    """

    rate: float
    reads = "regression"  # the targets are numbers

    @classmethod
    def fit(cls, train, balanced):
        numbers = [sample.target for sample in train]
        if not numbers or min(numbers) < 0 or max(numbers) == 0:
            raise DataError("no counts", where="target", expected="numbers from 0, not all of them 0")
        return cls(sum(numbers) / len(numbers))

    def head(self, width, length, generator):
        return pooled_head(width, 1, generator)

    def targets(self, samples, tokenizer):
        return torch.tensor([sample.target for sample in samples])

    def _rates(self, output):
        return self.rate * output[:, 0].exp()

    def loss(self, output, targets):
        return torch.nn.functional.poisson_nll_loss(self._rates(output), targets, log_input=False)

    def metrics(self, output, targets):
        return {"mae": (self._rates(output) - targets).abs().mean().item()}

    def predictions(self, output):
        return [Prediction(rate) for rate in self._rates(output).tolist()]

    def mix(self, outputs, weights):
        rates = sum(weight * output.exp() for weight, output in zip(weights, outputs, strict=True))
        return rates.log()
