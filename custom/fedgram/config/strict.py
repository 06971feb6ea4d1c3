"""Strict conversion between plain data (JSON, TOML) and frozen configuration dataclasses."""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import math
import os
import re
import tomllib
import types
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from fedgram.errors import ConfigError
from fedgram.files import read_small

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")
_DEEP_NAME = re.compile(r"(?:[\w-]+\.){100}")
_WORD, _LONGEST = 64, 200  # bits of a number, characters of a value in a message


def to_dict(config: Any) -> dict[str, Any]:
    """Turn a configuration into plain dictionaries, lists and numbers, as JSON knows them."""
    return plain(config)


def plain(value: Any) -> Any:
    """A value without dataclasses, tuples and mappings of other kinds: what JSON gives back as it is."""
    if dataclasses.is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, tuple | list) else value


def composed(value: Any) -> Any:
    """Plain data with composed letters (NFC), as data are read: two ways to code an accent are one name."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, Mapping):
        return {name: composed(part) for name, part in value.items()}
    return [composed(part) for part in value] if isinstance(value, list | tuple) else value


def with_composed(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Settings of which those with the given names are composed; paths, say, stay as the disk has them."""
    below = {name: part for name, part in settings.items() if isinstance(part, dict)}
    found = {**settings, **{name: with_composed(part, names) for name, part in below.items()}}
    return {name: composed(part) if name in names else part for name, part in found.items()}


def from_dict(kind: type[T], settings: Mapping[str, Any], where: str) -> T:
    """Build a configuration dataclass from plain data, strictly.

    Args:
        kind: the dataclass.
        settings: by field name; nested dataclasses as nested mappings.
        where: the file or the part of it, for messages.

    Raises:
        ConfigError: an unknown or missing setting, or a value of the wrong type or range.
    """
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{type(settings).__name__}", where=where, expected="a table of settings")
    hints = get_type_hints(kind)
    for name in settings:
        if name not in hints:
            close = difflib.get_close_matches(name, hints, n=1)
            raise ConfigError(
                f"unknown setting {name!r}",
                where=where,
                expected=", ".join(hints),
                remedy=f"did you mean {close[0]!r}?" if close else None,
            )
    for name, value in settings.items():
        _require_moderate(value, f"{where}: {name}")
    values = {name: convert(hints[name], value, f"{where}: {name}") for name, value in settings.items()}
    fields = dataclasses.fields(kind)
    required = [f.name for f in fields if f.default is f.default_factory is dataclasses.MISSING]
    missing = [name for name in required if name not in values]
    if missing:
        raise ConfigError(f"missing setting {missing[0]!r}", where=where)
    return kind(**values)


def _require_moderate(value: Any, where: str) -> None:
    """Raise ConfigError for a number that is not finite or that no machine's word holds, alone or in a list."""
    for number in value if isinstance(value, list | tuple) else (value,):
        if isinstance(number, int) and number.bit_length() >= _WORD:
            raise ConfigError(f"a number of {number.bit_length()} bits", where=where, expected="a moderate number")
        if isinstance(number, float) and not math.isfinite(number):
            raise ConfigError(f"{number!r}", where=where, expected="a finite number")


def _shown(value: Any) -> str:
    """A value for a message, not at length."""
    try:
        return repr(value)[:_LONGEST]
    except (ValueError, RecursionError):  # too many digits, too deep
        return type(value).__name__


def imported(path: str, where: str) -> Any:
    """Import what a setting names as ``package.module:attribute``.

    Raises:
        ConfigError: nothing is there.
    """
    module, _, attribute = path.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"cannot import {path!r} ({error})",
            where=where,
            remedy="install the package here, or correct the name",
        ) from error


def expand_home(config: Any, names: Iterable[str]) -> None:
    """Write out a leading ``~`` in the settings of a configuration that are paths, while it is being built."""
    for name in names:
        value = getattr(config, name)
        if value is not None:
            object.__setattr__(config, name, os.path.expanduser(value))


def convert(hint: Any, value: Any, where: str) -> Any:
    """One plain value, checked against a type hint; nested dataclasses are built, lists become tuples.

    Raises:
        ConfigError: it is of another type.
    """
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and type(None) in options:
        return None
    hint = next(option for option in options if option is not type(None))
    origin = get_origin(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return from_dict(hint, value, where)
    if origin is Literal:
        if value not in get_args(hint):
            raise ConfigError(_shown(value), where=where, expected=" | ".join(map(str, get_args(hint))))
        return value
    if origin is tuple and isinstance(value, list | tuple):
        kinds = get_args(hint) if get_args(hint)[1:] != (Ellipsis,) else get_args(hint)[:1] * len(value)
        if len(kinds) == len(value):
            return tuple(convert(kind, item, where) for kind, item in zip(kinds, value, strict=True))
    if origin is Mapping and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {key: convert(get_args(hint)[1], item, where) for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):  # a whole number that no float holds
            return float(value)
    if origin is None and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    raise ConfigError(_shown(value), where=where, expected=getattr(hint, "__name__", str(hint)))


def require_absolute_paths(named: Mapping[str, str | None], path: Path) -> None:
    """Refuse relative paths: a job's processes run in a folder of their own, where they would lead elsewhere."""
    for name, value in named.items():
        if value is not None and ("\0" in value or value != value.encode(errors="replace").decode()):
            raise ConfigError(f"{name} holds what no file name can", where=path, remedy="write it anew, by hand")
        if value is not None and value.startswith("~"):
            raise ConfigError(f"{name} is in the home of nobody", where=path, expected="a user of this machine")
        if value is not None and not value.startswith(("/", "demo:")):
            raise ConfigError(
                f"{name} is a relative path",
                where=path,
                expected="an absolute path, from / or ~",
                remedy="write it as `realpath` prints it: a job runs in a folder of its own",
            )


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain data.

    Raises:
        ConfigError: it is not TOML.
    """
    try:
        text = read_small(path, ConfigError).decode("utf-8-sig").replace("\r\n", "\n")
        if _DEEP_NAME.search(text):  # the parser takes the square of its length
            raise ValueError("a name of a hundred parts")
        return with_composed(tomllib.loads(text), ("columns", "concepts"))
    except (ValueError, RecursionError) as error:  # not TOML, not UTF-8, a number of thousands of digits, too deep
        raise ConfigError(f"not a TOML file: {str(error)[:200]}", where=path) from None
