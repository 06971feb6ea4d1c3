"""Strict reading of the JSON of published data sets; messages never quote it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from fedgram.errors import DataError

T = TypeVar("T")


def read_object(path: Path) -> Mapping[str, Any]:
    """Read the object that a JSON file holds.

    Raises:
        DataError: no such file, or not a JSON object.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="correct the path in the site file")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError):  # the parser's message quotes the file
        found = None
    if not isinstance(found, dict):
        raise DataError("not a JSON object", where=path, remedy="download or export it again")
    return found


def entries(record: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    """The list of objects under a name.

    Raises:
        DataError: there is none, or it holds something else.
    """
    found = record.get(name)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise DataError(f"no list of objects under {name!r}", where=where)
    return found


def value(record: Mapping[str, Any], name: str, kind: type[T], where: str) -> T:
    """The value under a name, of the given type; words are not empty.

    Raises:
        DataError: it is missing, empty or of another kind. Truth values are no numbers.
    """
    found = record.get(name)
    if not isinstance(found, kind) or isinstance(found, bool) or found == "":
        raise DataError(f"no {name!r}", where=where, expected=f"a value of type {kind.__name__}")
    return found


def identity(record: Mapping[str, Any], name: str, where: str) -> str:
    """The id under a name, a whole number or a word, as a word.

    Raises:
        DataError: it is missing or something else.
    """
    found = record.get(name)
    if isinstance(found, bool) or not isinstance(found, int | str) or found == "":
        raise DataError(f"no {name!r}", where=where, expected="an id: a whole number or a word")
    return str(found)


def by_identity(
    records: list[Mapping[str, Any]], name: str, where: Path, what: str
) -> dict[str, Mapping[str, Any]]:
    """Objects by their id, in the order of the file.

    Raises:
        DataError: an id is missing or there twice; the second is named by its place, counted from 1.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for number, record in enumerate(records, 1):
        place = f"{where}, {what} {number}"
        key = identity(record, name, place)
        if key in found:
            raise DataError(f"{name} repeats that of an earlier {what}", where=place)
        found[key] = record
    return found
