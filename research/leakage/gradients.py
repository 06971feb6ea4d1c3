"""The attacker's own computations: what a sample would change in B, and what of B's change a sample explains."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from fedgram.model import lora
from fedgram.model.geo_linear import ADAPTER
from fedgram.model.site_model import SiteModel
from fedgram.model.tasks import Task
from fedgram.records import Tokens
from torch import Tensor

_RIDGE = 1e-3  # added to a correlation matrix before it is inverted


@contextmanager
def _watched(model: SiteModel) -> Generator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """Keep A x of every adapted layer, and the gradient of its output, by layer, from the pass inside."""
    low: dict[str, Tensor] = {}
    back: dict[str, Tensor] = {}

    def watch(name: str) -> Any:
        def hook(layer: Any, arguments: tuple[Any, ...], y: Tensor) -> None:
            low[name] = (arguments[0] @ layer.A.T).detach()
            if y.requires_grad:
                y.register_hook(lambda g: back.__setitem__(name, g.detach()))

        return hook

    layers = lora.adapted_layers(model.transformer)
    handles = [layer.register_forward_hook(watch(name)) for name, layer in layers.items()]
    try:
        yield low, back
    finally:
        for handle in handles:
            handle.remove()


def sample_gradients(model: SiteModel, task: Task, tokens: Tokens, targets: Tensor) -> Tensor:
    """The gradient of the task's loss in B for each sample by itself: (N, P), layers in the order of their names.

    Args:
        targets: (N,) of classes.
    """
    with _watched(model) as (low, back):
        output = model(tokens)
        (task.loss(output, targets) * len(targets)).backward()  # a mean over samples that do not meet
    model.zero_grad()
    layers = lora.adapted_layers(model.transformer)
    found = [
        layers[k].scaling[ADAPTER] * torch.einsum("nto,ntr->nor", back[k], low[k]).flatten(1) for k in sorted(low)
    ]
    return torch.cat(found, dim=1)


@torch.no_grad()
def sketches(model: SiteModel, tokens: Tokens) -> dict[str, Tensor]:
    """What enters B of every adapted layer, A x of each token: (N, L, r) by layer."""
    with _watched(model) as (low, _):
        model.hidden(tokens)
    return low


def correlation(delta: Tensor) -> Tensor:
    """The correlations between the columns of a gradient of which only signs are left: (d_out, r) → (r, r).

    Adam's first step is the sign of the gradient. For Gaussian rows the correlation of signs is (2/π) arcsin ρ, so
    that ρ comes back from it, and with it the few directions that the gradient's rows span.
    """
    x = delta.double()
    gram = x.T @ x
    size = gram.diagonal().sqrt().clamp_min(1e-30)
    return torch.sin(torch.pi / 2 * (gram / size / size[:, None]).clamp(-1, 1))


def strangeness(delta: Mapping[str, Tensor], found: Mapping[str, Tensor], layers: list[str]) -> Tensor:
    """How far each candidate's A x is from the row space of ΔB, summed over layers: (N, L), small if it took part.

    It is the length of A x in the metric of the inverse correlation of ΔB's columns.

    Args:
        found: A x, (N, L, r) by layer.
    """
    total = torch.zeros(next(iter(found.values())).shape[:2], dtype=torch.float64)
    for name in layers:
        a = found[name].double()
        a = a / a.square().mean((0, 1)).sqrt().clamp_min(1e-30)  # to the scale at which signs correlate
        a = a / a.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        matrix = correlation(delta[name])
        values, vectors = torch.linalg.eigh(matrix)
        total += ((a @ vectors).square() / (values.clamp_min(0) + _RIDGE)).sum(-1).log()
    return total
