"""The choice between a site's own model, the federation's and their mixtures, in favour of its own."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor

from fedgram.errors import FedgramError


def simplex(parts: int, steps: int) -> Tensor:
    """All weights of ``parts`` components in steps of 1/``steps``, (S, parts); each row sums to 1.

    The first row is the first component alone.

    Raises:
        FedgramError: no component, or no step.
    """
    if parts < 1 or steps < 1:
        raise FedgramError(f"{parts} parts in {steps} steps", expected="1 or more of both")
    counts = (c for c in product(range(steps, -1, -1), repeat=parts) if sum(c) == steps)
    return torch.tensor(list(counts), dtype=torch.float64) / steps


def paired(differences: Tensor) -> tuple[float, float]:
    """The mean of paired differences and its standard error, s / √G; the error of a single one is infinite.

    Args:
        differences: (G,), one of each group.

    Raises:
        FedgramError: there is none.
    """
    if differences.ndim != 1 or len(differences) == 0:
        raise FedgramError(f"differences of shape {tuple(differences.shape)}", expected="(G,), G ≥ 1")
    values = differences.double()
    error = values.std().item() / len(values) ** 0.5 if len(values) > 1 else float("inf")
    return values.mean().item(), error


def choose(losses: Tensor) -> int:
    """Choose the candidate of least mean loss among those that beat the first by more than one standard error.

    The first candidate is home. Another one counts only if its mean improvement over home is larger than the
    standard error of the differences by group (Breiman et al. 1984, the 1 SE rule, here paired). With fewer than
    two groups nothing can count. A candidate whose losses are not finite never counts; where home's are not, the
    best of those that are finite is taken.

    Args:
        losses: (S, G), mean loss of each candidate in each group.

    Returns:
        Row of the candidate; 0 is home.

    Raises:
        FedgramError: not a matrix, or no candidate.
    """
    if losses.ndim != 2 or len(losses) == 0:
        raise FedgramError(f"losses of shape {tuple(losses.shape)}", expected="(S, G), S ≥ 1")
    if losses.shape[1] < 2:
        return 0
    finite = losses.isfinite().all(dim=1)
    counts = [i for i in range(1, len(losses)) if finite[i]]
    if finite[0]:
        gains = {i: paired(losses[0] - losses[i]) for i in counts}
        counts = [i for i, (mean, error) in gains.items() if mean > error]
    means = losses.double().mean(dim=1)
    return min(counts, key=lambda i: means[i].item(), default=0)


def mix_logs(logs: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """The logarithm of a weighted mean, log Σ w exp(l), elementwise and without underflow.

    Args:
        logs: tensors of one shape: the logarithm of each component.
        weights: of each component, positive.
    """
    parts = [log + log.new_tensor(weight).log() for log, weight in zip(logs, weights, strict=True)]
    return torch.stack(parts).logsumexp(dim=0)
