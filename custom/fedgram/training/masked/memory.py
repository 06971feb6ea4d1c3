"""A site's memory of masked sums, on its disk: by it the site gives no share twice to different ends.

Every line of ``sums.jsonl`` is one thing that the site has done: it masked a value, or it confirmed whom a sum is
over. Two rules follow. Under the masks of one sum there is one value, between one set of sites, and for one sum
there is one list of survivors: else a mask could be taken off. And one value is in one sum: two sums over
different sites that both hold it would differ by somebody's value alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from fedgram.errors import MaskRefused
from fedgram.files import append

FILE = "sums.jsonl"


class Memory:
    """The masked sums of a site.

    Args:
        folder: of the site's own state.
    """

    def __init__(self, folder: Path):
        self._path = folder / FILE

    def masks(self, context: str, sharers: Sequence[str], values: Mapping[str, Tensor]) -> None:
        """Note that a value is masked in a sum, between some sites.

        Raises:
            MaskRefused: another value was, or between others, in the same sum.
            CheckpointError: it cannot be written.
        """
        line = {"context": context, "sharers": sorted(sharers), "value": print_of(values)}
        known = [earlier for earlier in self._lines() if earlier["context"] == context and "value" in earlier]
        if any(earlier != line for earlier in known):
            raise MaskRefused(
                "another value was masked in this sum already",
                where=self._path,
                expected="the same one, between the same sites",
                remedy="the next round has masks of its own",
            )
        if not known:
            self._add(line)

    def confirms(self, context: str, sharers: Sequence[str], survivors: Sequence[str]) -> None:
        """Note whom a sum is over, between some sites.

        Raises:
            MaskRefused: it was confirmed over others, this sum or another one that holds the same value; or this
                site has masked nothing in it between these.
            CheckpointError: it cannot be written.
        """
        lines, line = self._lines(), {"context": context, "survivors": sorted(survivors)}
        own = [earlier for earlier in lines if earlier["context"] == context and "value" in earlier]
        if [earlier["sharers"] for earlier in own] != [sorted(sharers)]:
            raise MaskRefused("a sum in which this site has masked nothing between these", where=self._path)
        alike = {earlier["context"] for earlier in lines if earlier.get("value") == own[0]["value"]}
        given = [
            earlier["survivors"] for earlier in lines if earlier["context"] in alike and "survivors" in earlier
        ]
        if any(names != line["survivors"] for names in given):
            raise MaskRefused(
                "a sum of this value over other sites was confirmed before",
                where=self._path,
                expected=f"the sum over {', '.join(given[0])} and no other: two sums differ by somebody's value",
                remedy="the next round is free; a job that begins anew with other sites needs another seed",
            )
        if line not in lines:
            self._add(line)

    def require_confirmed(self, context: str, survivors: Sequence[str]) -> None:
        """Raise MaskRefused unless this site has confirmed that a sum is over these."""
        if {"context": context, "survivors": sorted(survivors)} not in self._lines():
            raise MaskRefused("a sum that this site has not confirmed", where=self._path)

    def _add(self, line: Mapping[str, object]) -> None:
        append(self._path, b"\n" + json.dumps(line).encode() + b"\n")

    def _lines(self) -> list[dict]:
        """All that was written whole; half a line is of something that was then not done."""
        lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        found = []
        for line in lines:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found


def print_of(values: Mapping[str, Tensor]) -> str:
    """The sha256 of values, by label."""
    found = sha256()
    for label, value in sorted(values.items()):
        found.update(f"{label}:{tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
