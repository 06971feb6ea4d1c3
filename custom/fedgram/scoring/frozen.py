"""Frozen tokens as one vector a sample, and a linear map of them that answers in the place of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedgram.model.site_model import masked_mean
from fedgram.records import Tokens


def frozen(tokens: Tokens) -> np.ndarray:
    """The mean of the tokens that are there, (N, d_m), float64."""
    return masked_mean(tokens.values.cpu().double(), tokens.mask.cpu()).numpy()


@dataclass(frozen=True)
class FrozenLinear:
    """A linear map from the mean of a sample's frozen tokens to what the head of a task would say.

    Attributes:
        weight: (C, d_m), float32.
        bias: (C,), float32.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, tokens: Tokens) -> Tensor:
        """Answer samples, (N, C), float32, on the CPU."""
        means = torch.from_numpy(frozen(tokens))
        return (means @ self.weight.double().T + self.bias.double()).float()
