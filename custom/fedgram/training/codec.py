"""Records as named tensors and plain facts, and back: the one codec of the wire and of the checkpoint.

The type of a field says where it goes. A tensor takes the field's name, the tensors of a mapping are called
``<field>/<key>``, and a record within a record puts its own field first (``spec/width``). All else is plain data,
as JSON knows it. Nothing depends on an order, so no two fields can change places.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import is_dataclass
from typing import Any, NamedTuple, TypeVar, get_args, get_type_hints

from torch import Tensor

from fedgram.config.strict import convert, plain
from fedgram.errors import ConfigError, FedgramError
from fedgram.records import below

R = TypeVar("R")
ErrorOf = Callable[..., FedgramError]  # of a problem and, by keyword, what was expected


class Names(NamedTuple):
    """The names of the parts of a record; one that ends in ``/`` stands for all that begin with it."""

    tensors: tuple[str, ...]
    facts: tuple[str, ...]


def is_listed(name: object, names: Iterable[str]) -> bool:
    """Whether a part of a record is one of those that are listed, by name or by a beginning that ends in ``/``."""
    return any(name == n or (n.endswith("/") and isinstance(name, str) and name.startswith(n)) for n in names)


def names_of(kind: type, within: str = "") -> Names:
    """The names of a kind of record, each after the name of the record that it is ``within``."""
    tensors, facts = [], []
    for name, hint in get_type_hints(kind).items():
        if isinstance(hint, type) and is_dataclass(hint):
            inner = names_of(hint, f"{within}{name}/")
            tensors += inner.tensors
            facts += inner.facts
        elif _holds_tensors(hint):
            tensors.append(f"{within}{name}/")
        else:
            (tensors if hint is Tensor else facts).append(f"{within}{name}")
    return Names(tuple(tensors), tuple(facts))


def pack(record: Any, within: str = "") -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts of a record, each after the name of the record that it is ``within``."""
    tensors: dict[str, Tensor] = {}
    facts: dict[str, Any] = {}
    for field, hint in get_type_hints(type(record)).items():
        name, value = f"{within}{field}", getattr(record, field)
        if is_dataclass(hint):
            inner = pack(value, f"{name}/")
            tensors |= inner[0]
            facts |= inner[1]
        elif _holds_tensors(hint):
            tensors |= {f"{name}/{key}": tensor for key, tensor in value.items()}
        elif hint is Tensor:
            tensors[name] = value
        else:
            facts[name] = plain(value)
    return tensors, facts


def unpack(kind: type[R], tensors: Mapping[str, Any], facts: Mapping[str, Any], error: ErrorOf) -> R:
    """The record that was packed. Nothing is trusted, nothing is filled in.

    Args:
        kind: of record.
        tensors, facts: as :func:`pack` gives them, from wherever they come.
        error: makes the error to raise: ``partial(UpdateRejected, where=site)``.

    Raises:
        FedgramError: as ``error`` makes it: a part is missing, unknown or of the wrong kind.
    """
    for given, listed in zip((tensors, facts), names_of(kind), strict=True):
        if not isinstance(given, Mapping):
            raise error(f"{type(given).__name__} for the parts", expected="a mapping by name")
        names: Iterable[object] = given  # from the wire, so perhaps no strings
        unknown = [str(name)[:64] for name in names if not is_listed(name, listed)]
        if unknown:
            raise error(f"unknown parts {unknown[:3]}", expected=", ".join(listed) or "none")
    return _build(kind, tensors, facts, error)


def _build(
    kind: type[R], tensors: Mapping[str, Any], facts: Mapping[str, Any], error: ErrorOf, within: str = ""
) -> R:
    values: dict[str, Any] = {}
    for field, hint in get_type_hints(kind).items():
        name = f"{within}{field}"
        if isinstance(hint, type) and is_dataclass(hint):
            values[field] = _build(hint, tensors, facts, error, f"{name}/")
        elif _holds_tensors(hint):
            found = below(f"{name}/", tensors)
            values[field] = {key: _tensor(f"{name}/{key}", value, error) for key, value in found.items()}
        elif hint is Tensor:
            values[field] = _tensor(name, tensors.get(name), error)
        else:
            values[field] = _fact(name, hint, facts, error)
    return kind(**values)


def _holds_tensors(hint: Any) -> bool:
    return get_args(hint) == (str, Tensor)


def _tensor(name: str, value: Any, error: ErrorOf) -> Tensor:
    if not isinstance(value, Tensor):
        raise error(f"{name}: {'missing' if value is None else _kind(value)}", expected="a tensor")
    return value


def _fact(name: str, hint: Any, facts: Mapping[str, Any], error: ErrorOf) -> Any:
    """The plain value as the type that the record wants; a message names kinds and never shows the value."""
    try:
        return convert(hint, facts[name], name)
    except (KeyError, ConfigError) as fault:
        got = _kind(facts[name]) if name in facts else "missing"
        raise error(f"{name}: {got}", expected=inspect.formatannotation(hint)) from fault


def _kind(value: Any) -> str:
    items = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    kinds = sorted({type(item).__name__ for item in items})
    return type(value).__name__ + (f" of {', '.join(kinds)}" if kinds else "")
