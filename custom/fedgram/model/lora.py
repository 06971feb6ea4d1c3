"""The adapters of a transformer: read and set B, m and what else a method trains.

A layer is named by its PEFT module path (``base_model.model.layers.0.self_attn.q_proj``), in every mapping of this
module. Methods and the server know it; PEFT comes with :mod:`fedgram.model.attaching`, where a model is built.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedgram.errors import BackboneError, CheckpointError

if TYPE_CHECKING:
    from fedgram.model.geo_linear import GeoLinear


def adapted_layers(model: nn.Module) -> dict[str, GeoLinear]:
    """The adapted layers of an attached model by name, in the order of the forward pass.

    Raises:
        BackboneError: there is none.
    """
    from fedgram.model.geo_linear import GeoLinear  # with PEFT: whoever has an attached model has it

    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, GeoLinear)}
    if not layers:
        raise BackboneError(
            "no adapted layer", where=type(model).__name__, remedy="use the model that attach() returned"
        )
    return layers


def spec(model: nn.Module) -> dict[str, tuple[int, int, int]]:
    """Shapes (d_out, r, d_in) of the adapted layers by name."""
    return {k: (v.out_features, len(v.A), v.in_features) for k, v in adapted_layers(model).items()}


def get_B(model: nn.Module) -> dict[str, Tensor]:
    """A copy of B by layer name: (d_out, r), float32, contiguous, on the CPU."""
    return {name: plain_copy(layer.B) for name, layer in adapted_layers(model).items()}


def get_m(model: nn.Module) -> dict[str, Tensor]:
    """A copy of m by layer name: (d_out,), float32, contiguous, on the CPU; empty for GeoLoRA."""
    layers = adapted_layers(model).items()
    return {name: plain_copy(layer.m) for name, layer in layers if layer.m is not None}


def get_A(model: nn.Module) -> dict[str, Tensor]:
    """A copy of A by layer name: (r, d_in), float32, contiguous, on the CPU."""
    return {name: plain_copy(layer.A) for name, layer in adapted_layers(model).items()}


def get_residual(model: nn.Module) -> dict[str, Tensor]:
    """A copy of R by layer name: (d_out, d_in); empty while nothing was added to the base."""
    layers = adapted_layers(model).items()
    return {name: plain_copy(layer.residual) for name, layer in layers if layer.residual is not None}


def set_B(model: nn.Module, B: Mapping[str, Tensor]) -> None:
    """Set B in every layer.

    Raises:
        CheckpointError: a layer is missing, unknown or of another shape; nothing is changed then.
    """
    _load({name: layer.B for name, layer in adapted_layers(model).items()}, B, "B")


def state(model: nn.Module) -> dict[str, Tensor]:
    """A copy of all that trains: ``B/<layer>``, ``m/<layer>`` in GeoDoRA, ``A/<layer>`` where A trains."""
    return {name: plain_copy(parameter) for name, parameter in _trained(model).items()}


def load_state(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Take over all that trains as :func:`state` gave it.

    Raises:
        CheckpointError: a tensor is missing, unknown or of another shape; nothing is changed then.
    """
    _load(_trained(model), tensors, "factor")


def _trained(model: nn.Module) -> dict[str, nn.Parameter]:
    found = {}
    for name, layer in adapted_layers(model).items():
        found[f"B/{name}"] = layer.B
        if layer.m is not None:
            found[f"m/{name}"] = layer.m
        if layer.A.requires_grad:
            found[f"A/{name}"] = layer.A
    return found


def set_A(model: nn.Module, A: Mapping[str, Tensor]) -> None:
    """Set A of the layers given, in a model whose A trains.

    Raises:
        CheckpointError: an unknown layer, or one of another shape; nothing is changed then.
    """
    layers = {name: layer.A for name, layer in adapted_layers(model).items() if name in A}
    _load(layers, A, "A")


def set_residual(model: nn.Module, residual: Mapping[str, Tensor]) -> None:
    """Set R, which is added to the base weights, of the layers given.

    Raises:
        CheckpointError: an unknown layer, or one of another shape; nothing is changed then.
        BackboneError: the layer is one of DoRA, or not dense.
    """
    layers = {name: layer for name, layer in adapted_layers(model).items() if name in residual}
    check_shapes({k: (v.out_features, v.in_features) for k, v in layers.items()}, residual, "R")
    for name, layer in layers.items():
        layer.set_residual(residual[name])


def drop_residual(model: nn.Module) -> None:
    """Give the base its own weights back, where something was added to them."""
    for layer in adapted_layers(model).values():
        if layer.untouched is not None:
            layer.set_residual(torch.zeros_like(layer.untouched))


def set_m(model: nn.Module, m: Mapping[str, Tensor]) -> None:
    """Set m in every layer; of a GeoLoRA model, which has none, only an empty mapping.

    Raises:
        CheckpointError: a layer is missing, unknown or of another shape; nothing is changed then.
    """
    layers = adapted_layers(model).items()
    _load({name: layer.m for name, layer in layers if layer.m is not None}, m, "m")


@contextmanager
def detached_m(model: nn.Module) -> Generator[None]:
    """Make m a constant inside: a loss computed here gives B a gradient and m none.

    The geometry loss acts on the direction alone. What counts is where the forward ran, so the backward may come
    later, also where `fedgram.model.recompute` runs the forward again.
    """
    layers = adapted_layers(model).values()
    before = [layer.m_detached for layer in layers]
    for layer in layers:
        layer.m_detached = True
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.m_detached = value


@contextmanager
def untrained(model: nn.Module) -> Generator[None]:
    """Make the model compute as its base inside, without update and R; what trains goes on to train."""
    layers = adapted_layers(model).values()
    for layer in layers:
        layer.set_aside = True
    try:
        yield
    finally:
        for layer in layers:
            layer.set_aside = False


def plain_copy(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", torch.float32, copy=True).contiguous()


@torch.no_grad()
def _load(target: Mapping[str, Tensor], source: Mapping[str, Tensor], symbol: str) -> None:
    check_shapes({name: tuple(value.shape) for name, value in target.items()}, source, symbol)
    for name, value in target.items():
        value.copy_(source[name])


def check_shapes(expected: Mapping[str, tuple[int, ...]], got: Mapping[str, Tensor], symbol: str) -> None:
    """Raise unless `got` has exactly the layers and shapes of `expected`."""
    for problem, names in (("no", expected.keys() - got.keys()), ("unknown", got.keys() - expected.keys())):
        if names:
            raise CheckpointError(
                f"{problem} {symbol} for {len(names)} layers",
                where=min(names),
                expected=f"the {len(expected)} layers that the model has",
                remedy="use the state of a model with the same backbone, targets and kind of adapter",
            )
    for name, shape in expected.items():
        if tuple(got[name].shape) != shape:
            raise CheckpointError(f"{symbol} of shape {tuple(got[name].shape)}", where=name, expected=shape)
