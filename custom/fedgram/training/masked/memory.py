"""A site's memory of masked sums, on its disk: by it the site gives no share twice to different ends.

Every line of ``sums.jsonl`` says of one sum what the site has done, and nothing else is done for it later. On one
occasion (run, round, state and job) there is one set of cards: the mask key is of the occasion, and where it is
revealed there must be no second sum that reveals the site's seed. Under the masks of one sum there is one value,
between one set of sites, and for one sum there is one list of survivors: else a mask could be taken off.

And one value is in one sum: two sums over different sites that hold it would differ by somebody's value alone. It
is not values that are compared: a server that moves the state by a trifle, or begins with another round where all
samples are one batch, gets nearly the same again. Only another seed makes a site draw other weights. With one seed
the sites of a sum may change from a round to a later one of the same run, which begins with what was trained in
between, so rounds of a run do not go back; in another run they may not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram.errors import MaskRefused
from fedgram.files import append, exclusively
from fedgram.training.masked.messages import SumCall

FILE, _LOCK = "sums.jsonl", "sums.lock"
_CARDS, _MASKS, _SUM = "cards", "masks", "sum"


class Memory:
    """The masked sums of a site.

    Args:
        folder: of the site's own state.
    """

    def __init__(self, folder: Path):
        self._path, self._lock = folder / FILE, folder / _LOCK

    def joins(self, call: SumCall, job: str) -> None:
        """Note the cards with which the site takes part on an occasion.

        Args:
            job: fingerprint of its settings.

        Raises:
            MaskRefused: it has taken part with other cards, or in a later round of the same run.
            CheckpointError: it cannot be written, or not be locked.
        """
        with exclusively(self._lock):
            last = max((of[1] for of, _ in self._all(_CARDS) if of[0] == call.run), default=0)
            if call.round < last:
                raise MaskRefused(
                    f"round {call.round} after round {last}",
                    where=self._path,
                    expected="no earlier one: what was trained since would be undone, and its sum told apart",
                    remedy=f"round {last} and later ones are free",
                )
            if self._first(_CARDS, [call.run, call.round, call.state, job], call.context) != call.context:
                raise MaskRefused(
                    "a second sum of this round, between other sites",
                    where=self._path,
                    expected="the cards of the first: under the same keys two sums could reveal both secrets",
                    remedy="the next round is free, with whichever sites are there",
                )

    def masks(self, call: SumCall, values: Mapping[str, Tensor]) -> None:
        """Note that a value is masked in a sum, between its sharers.

        Raises:
            MaskRefused: another value was, or between others, in the same sum.
            CheckpointError: it cannot be written, or not be locked.
        """
        masked = {"sharers": sorted(call.sharers), "value": print_of(values)}
        with exclusively(self._lock):
            if self._first(_MASKS, call.context, masked) != masked:
                raise MaskRefused(
                    "another value was masked in this sum already",
                    where=self._path,
                    expected="the same one, between the same sites",
                    remedy="the next round has masks of its own",
                )

    def confirms(self, call: SumCall, seed: int) -> None:
        """Note whom a sum is over.

        Args:
            seed: of the job.

        Raises:
            MaskRefused: a sum of this seed was confirmed over others, and this is no later round of the same run;
                or this site has masked nothing in it between these.
            CheckpointError: it cannot be written, or not be locked.
        """
        with exclusively(self._lock):
            masked = dict(self._all(_MASKS)).get(call.context)
            if masked is None or masked["sharers"] != sorted(call.sharers):
                raise MaskRefused("a sum in which this site has masked nothing between these", where=self._path)
            own = _sum(call, seed)
            for earlier in (noted for _, noted in self._all(_SUM) if noted["seed"] == seed):
                goes_on = earlier["run"] == call.run and earlier["round"] < call.round
                if earlier["survivors"] != own["survivors"] and not goes_on:
                    raise MaskRefused(
                        f"seed {seed}: a sum over other sites was confirmed before",
                        where=self._path,
                        expected=f"{', '.join(earlier['survivors'])} alone: two sums would differ by one's value",
                        remedy="a later round of that run may be over others; any other run needs another `seed`",
                    )
            self._first(_SUM, call.context, own)

    def require_confirmed(self, call: SumCall, seed: int) -> None:
        """Raise MaskRefused unless this site has confirmed whom a sum is over."""
        if (call.context, _sum(call, seed)) not in self._all(_SUM):
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


def _sum(call: SumCall, seed: int) -> dict[str, Any]:
    """The note of whom a sum is over."""
    return {"seed": seed, "run": call.run, "round": call.round, "survivors": [*call.survivors]}


def print_of(values: Mapping[str, Tensor]) -> str:
    """The sha256 of values, by label."""
    found = sha256()
    for label, value in sorted(values.items()):
        found.update(f"{label}:{tuple(value.shape)}".encode())
        found.update(value.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()
