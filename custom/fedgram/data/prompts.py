"""Prompts with what their pictures must show, read in GenEval's published format."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedgram.data.boxes import OPPOSITE
from fedgram.data.decoding import decode_file
from fedgram.errors import DataError


@dataclass(frozen=True)
class Wanted:
    """A label and how many things of it: at least so many to be included, fewer to be excluded.

    Attributes:
        colour: of all of them, where the prompt names one.
        position: a relation, and which of the prompt's included things it is to.
    """

    label: str
    count: int
    colour: str | None = None
    position: tuple[str, int] | None = None


@dataclass(frozen=True)
class Prompt:
    """A prompt and what its picture must show: one line of ``evaluation_metadata.jsonl``.

    Attributes:
        tag: the skill.
        include: all must hold.
        exclude: none may hold.
    """

    text: str
    tag: str
    include: tuple[Wanted, ...]
    exclude: tuple[Wanted, ...] = ()


def read_prompts(path: Path) -> list[Prompt]:
    """The prompts of a file in the format of GenEval's ``evaluation_metadata.jsonl``.

    Raises:
        DataError: no such file, or a line that is not of this format.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, expected="GenEval's evaluation_metadata.jsonl")
    prompts = []
    for number, line in enumerate(decode_file(path, "file of prompts").splitlines(), 1):
        if not line.strip():
            continue
        try:
            prompts.append(_prompt(json.loads(line)))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DataError(
                f"not a prompt ({type(error).__name__})",
                where=f"{path}, line {number}",
                expected='{"prompt": …, "tag": …, "include": [{"class": …, "count": …}]}',
            ) from None
    if not prompts:
        raise DataError("no prompts", where=path)
    return prompts


def with_article(words: str) -> str:
    """Put "a" or "an" before a thing, as prompts have it."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _prompt(record: Mapping[str, Any]) -> Prompt:
    include = tuple(_wanted(entry) for entry in record["include"])
    for index, entry in enumerate(include):
        if entry.position is not None and (
            entry.position[0] not in OPPOSITE or not 0 <= entry.position[1] < index
        ):
            raise ValueError("position")
    return Prompt(
        str(record["prompt"]), str(record["tag"]), include, tuple(_wanted(e) for e in record.get("exclude", ()))
    )


def _wanted(entry: Mapping[str, Any]) -> Wanted:
    position = entry.get("position")
    return Wanted(
        str(entry["class"]),
        int(entry["count"]),
        entry.get("color"),
        None if position is None else (str(position[0]), int(position[1])),
    )
