"""The gradient of each group of samples apart, out of one pass over all of them.

Everything that trains at a site is a linear layer, so what comes in and the gradient of what goes out say all: B
and m of an adapted layer, W_m, and the head (Goodfellow 2015, of samples). The base has no gradient.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from fedgram.core import privacy
from fedgram.errors import BackboneError
from fedgram.model.geo_linear import GeoLinear
from fedgram.model.site_model import LocalModel, masked_mean
from fedgram.model.tasks.base import PooledHead


def trained(model: LocalModel) -> dict[str, nn.Parameter]:
    """All parameters that train at a site, by a name of their own, in a fixed order."""
    modules = {"transformer": model.transformer, **model.local()}
    return {
        f"{part}.{name}": parameter
        for part, module in modules.items()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


@contextmanager
def group_gradients(model: LocalModel, sizes: Sequence[int]) -> Generator[dict[str, Tensor]]:
    """Gather, from the one forward and backward pass inside, the gradient of every parameter for each group.

    The samples of a group stand after one another in the batch, and no loss couples two groups. The mapping is
    complete once the backward is done: (K, …) by the names of :func:`trained`.

    Args:
        sizes: of the K groups, in samples.

    Raises:
        BackboneError: something trains that is not a linear layer, or a layer does not keep samples apart.
    """
    names = {id(parameter): name for name, parameter in trained(model).items()}
    found: dict[str, Tensor] = {}
    modules = [module for part in (model.transformer, *model.local().values()) for module in part.modules()]
    layers = [m for m in modules if any(id(p) in names for p in _own(m))]
    covered = {id(p) for m in layers for p in _own(m)}
    if missing := [name for key, name in names.items() if key not in covered]:
        raise _uncoupled(missing[0])

    def watch(layer: Any, arguments: tuple[Any, ...], y: Tensor) -> None:
        x = masked_mean(*arguments) if isinstance(layer, PooledHead) else arguments[0]
        if len(x) != sum(sizes) or len(y) != len(x):
            raise _uncoupled(type(layer).__name__)
        if y.requires_grad:
            x, out = x.detach(), y.detach()
            y.register_hook(lambda g: _add(found, names, _of_layer(layer, x, out, g.detach(), sizes)))

    handles = [layer.register_forward_hook(watch) for layer in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _own(module: nn.Module) -> list[nn.Parameter]:
    """The parameters of a layer whose gradients :func:`_of_layer` knows."""
    if isinstance(module, GeoLinear):
        return [module.B, *([] if module.m is None else [module.m])]
    return [*module.parameters(recurse=False)] if isinstance(module, nn.Linear) else []


def _of_layer(layer: Any, x: Tensor, y: Tensor, g: Tensor, sizes: Sequence[int]) -> Mapping[int, Tensor]:
    """The gradients of a layer's parameters for each group, by the parameter's identity."""
    if not isinstance(layer, GeoLinear):
        found = {id(layer.weight): privacy.weight_gradients(x, g, sizes)}
        return found if layer.bias is None else {**found, id(layer.bias): privacy.row_gradients(g, sizes)}
    a, b, s, scale = layer.factors()
    low = nn.functional.linear(x.to(a), a)
    of_b = s * privacy.weight_gradients(low, g, sizes)
    if layer.m is None or scale is None:
        return {id(b): of_b}
    base: Any = layer.get_base_layer()
    of_m = privacy.magnitude_gradients(g, y, base.bias, layer.m.detach(), sizes)
    return {id(b): of_b * scale.detach()[:, None], id(layer.m): of_m}


def _add(found: dict[str, Tensor], names: Mapping[int, str], gradients: Mapping[int, Tensor]) -> None:
    for key, gradient in gradients.items():
        if key in names:
            name = names[key]
            found[name] = found[name] + gradient if name in found else gradient


def _uncoupled(what: str) -> BackboneError:
    return BackboneError(
        f"{what} has no gradient for each group",
        where="privacy",
        expected="linear layers that take samples apart, (N, …, d)",
        remedy="use a backbone of the BERT or Llama kind and a head of fedgram, or leave [privacy] out",
    )
