"""The server's optimiser over a round's mean change: SGD with momentum, or Adam (Reddi et al. 2021, FedOpt)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from fedgram.errors import FedgramError

ServerOptimizer = Literal["momentum", "adam"]

_BETA_2, _TAU = 0.99, 1e-3  # of Reddi et al. 2021, section 5


class ServerStep:
    """One step of the server's optimiser over named tensors, the mean change Δ of each as its pseudo-gradient.

    ``momentum``: v ← β v + Δ, the step is η v. ``adam``: v ← β v + (1 − β) Δ, w ← β₂ w + (1 − β₂) Δ², the step is
    η v / (√w + τ), with no correction of the bias, as in algorithm 2 of Reddi et al. 2021.

    Args:
        optimizer: which of the two.
        learning_rate: η.
        momentum: β.
        before: moments after the last step, as :attr:`moments` gave them; empty before the first.

    Attributes:
        moments: after this step.

    Raises:
        FedgramError: an optimiser of another name.
    """

    def __init__(
        self, optimizer: ServerOptimizer, learning_rate: float, momentum: float, before: Mapping[str, Tensor]
    ):
        if optimizer not in ("momentum", "adam"):
            raise FedgramError(f"unknown server optimiser {optimizer!r}", expected="momentum | adam")
        self._adam, self._rate, self._beta, self._before = optimizer == "adam", learning_rate, momentum, before
        self.moments: dict[str, Tensor] = {}

    def __call__(self, name: str, change: Tensor) -> Tensor:
        """The step for one tensor, in float32.

        Args:
            name: of the tensor, the same in every round.
            change: Δ, float64.
        """
        first = self._moment(f"first/{name}", change, self._beta, 1 - self._beta if self._adam else 1.0)
        if not self._adam:
            return self._rate * first
        second = self._moment(f"second/{name}", change.square(), _BETA_2, 1 - _BETA_2)
        return self._rate * first / (second.sqrt() + _TAU)

    def _moment(self, name: str, value: Tensor, keep: float, take: float) -> Tensor:
        before = self._before.get(name)
        moment = take * value if before is None else keep * before.double() + take * value
        self.moments[name] = moment.to(torch.float32)
        return self.moments[name]
