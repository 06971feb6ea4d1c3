"""Gradient checkpointing (Chen 2016): keep the input of each layer, and compute its inside again when needed."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from fedgram.errors import BackboneError
from fedgram.model.geo_linear import GeoLinear


def recompute_layers(transformer: nn.Module) -> None:
    """Make every layer of an attached transformer keep its input only.

    A step takes a forward pass longer, and its memory grows with the layers' inputs and one layer's inside.

    transformers has the same for a model in training mode, but fedgram's base is always in evaluation mode. And
    the second pass has to see m as the first did, detached or not: `fedgram.model.lora.detached_m`.

    Raises:
        BackboneError: the model does not tell its layers.
    """
    layers = [module for module in transformer.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        raise BackboneError(
            f"{type(transformer).__name__} has no layers to compute again",
            remedy="leave gradient_checkpointing out of the site file",
        )
    for layer in layers:
        adapted = [module for module in layer.modules() if isinstance(module, GeoLinear)]
        layer.forward = partial(_recomputed, layer.forward, adapted)


def _recomputed(forward: Callable[..., Any], adapted: Sequence[GeoLinear], *args: Any, **kwargs: Any) -> Any:
    seen = [module.m_detached for module in adapted]
    return checkpoint(
        forward,
        *args,
        use_reentrant=False,
        preserve_rng_state=False,  # there is no dropout
        context_fn=lambda: (nullcontext(), _detached_as(adapted, seen)),
        **kwargs,
    )


@contextmanager
def _detached_as(adapted: Sequence[GeoLinear], seen: Sequence[bool]) -> Generator[None]:
    now = [module.m_detached for module in adapted]
    try:
        for module, value in zip(adapted, seen, strict=True):
            module.m_detached = value
        yield
    finally:
        for module, value in zip(adapted, now, strict=True):
            module.m_detached = value
