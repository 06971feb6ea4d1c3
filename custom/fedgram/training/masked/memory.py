"""A site's memory of masked sums, on its disk: by it the site gives no share twice to different ends.

Every line of ``sums.jsonl`` says of one thing what it was first, and nothing else is taken for it later. On one
occasion (run, round, state and job) there is one set of cards: the mask key is of the occasion, and where it is
revealed there must be no second sum that reveals the site's seed. Under the masks of one sum there is one value,
between one set of sites, and for one sum there is one list of survivors: else a mask could be taken off. And one
value is in one sum: two sums over different sites that both hold it would differ by somebody's value alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram.errors import MaskRefused
from fedgram.files import append

FILE = "sums.jsonl"
_CARDS, _MASKS, _SUM = "cards", "masks", "sum"


class Memory:
    """The masked sums of a site.

    Args:
        folder: of the site's own state.
    """

    def __init__(self, folder: Path):
        self._path = folder / FILE

    def joins(self, occasion: Sequence[str | int], context: str) -> None:
        """Note the cards with which the site takes part on an occasion.

        Args:
            occasion: run, round, state and job, of which the keys are made.
            context: sha256 of the cards.

        Raises:
            MaskRefused: it has taken part with other cards.
            CheckpointError: it cannot be written.
        """
        if self._first(_CARDS, [*occasion], context) != context:
            raise MaskRefused(
                "a second sum of this round, between other sites",
                where=self._path,
                expected="the cards of the first: the keys are the same, and two sums could reveal both secrets",
                remedy="the next round is free, with whichever sites are there",
            )

    def masks(self, context: str, sharers: Sequence[str], values: Mapping[str, Tensor]) -> None:
        """Note that a value is masked in a sum, between some sites.

        Raises:
            MaskRefused: another value was, or between others, in the same sum.
            CheckpointError: it cannot be written.
        """
        masked = {"sharers": sorted(sharers), "value": print_of(values)}
        if self._first(_MASKS, context, masked) != masked:
            raise MaskRefused(
                "another value was masked in this sum already",
                where=self._path,
                expected="the same one, between the same sites",
                remedy="the next round has masks of its own",
            )

    def confirms(self, context: str, sharers: Sequence[str], survivors: Sequence[str]) -> None:
        """Note whom a sum is over, between some sites.

        Raises:
            MaskRefused: it was confirmed over others, this sum or another one that holds the same value; or this
                site has masked nothing in it between these.
            CheckpointError: it cannot be written.
        """
        masked = dict(self._all(_MASKS))
        if context not in masked or masked[context]["sharers"] != sorted(sharers):
            raise MaskRefused("a sum in which this site has masked nothing between these", where=self._path)
        alike = [other for other in masked if masked[other]["value"] == masked[context]["value"]]
        given = [names for other, names in self._all(_SUM) if other in alike]
        if any(names != sorted(survivors) for names in given):
            raise MaskRefused(
                "a sum of this value over other sites was confirmed before",
                where=self._path,
                expected=f"the sum over {', '.join(given[0])} and no other: two sums differ by somebody's value",
                remedy="the next round is free; a job that begins anew with other sites needs another seed",
            )
        self._first(_SUM, context, sorted(survivors))

    def require_confirmed(self, context: str, survivors: Sequence[str]) -> None:
        """Raise MaskRefused unless this site has confirmed that a sum is over these."""
        if (context, sorted(survivors)) not in self._all(_SUM):
            raise MaskRefused("a sum that this site has not confirmed", where=self._path)

    def _first(self, kind: str, of: Any, given: Any) -> Any:
        """Note what is given of something where nothing was yet, and return what was noted first."""
        for known, first in self._all(kind):
            if known == of:
                return first
        append(self._path, b"\n" + json.dumps([kind, of, given]).encode() + b"\n")
        return given

    def _all(self, kind: str) -> list[tuple[Any, Any]]:
        """The notes of a kind that were written whole; half a line is of something that was then not done."""
        lines = self._path.read_bytes().split(b"\n") if self._path.exists() else []
        notes = []
        for line in lines:
            with suppress(ValueError):
                notes.append(json.loads(line))
        return [(of, given) for noted, of, given in notes if noted == kind]


def print_of(values: Mapping[str, Tensor]) -> str:
    """The sha256 of values, by label."""
    found = sha256()
    for label, value in sorted(values.items()):
        found.update(f"{label}:{tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
