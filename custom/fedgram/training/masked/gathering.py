"""The server's part in a masked sum: it relays, it adds, and it takes the masks off the sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Any

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.masks import KEY_BYTES, SEED_BYTES, pair_mask, public_key, stream
from fedgram.core.shares import LEAST, joined, threshold
from fedgram.errors import FedgramError, RoundFailed, UpdateRejected
from fedgram.training.masked.coverage import Slots, is_hidden
from fedgram.training.masked.identity import Unsigned, Verifier
from fedgram.training.masked.member import pair_seed
from fedgram.training.masked.messages import (
    CONFIRM,
    KEYS,
    MASKED,
    NO_STATE,
    REVEAL,
    SHARES,
    Confirmation,
    KeyCard,
    MaskedUpdate,
    RevealedShares,
    SiteKeys,
    SiteShares,
    SumCall,
    read_card,
    unhex,
)

_HASH = 2 * 32  # hexadecimal digits of a sha256

# Sends a phase to sites, each with its own call, and hands every answer to the first function, every refusal and
# its reason to the second; returns when all have answered or time is up.
Ask = Callable[[str, Mapping[str, SumCall], Callable[[Any], None], Callable[[str, str], None]], None]


class MaskedSum:
    """One masked sum at the server, phase by phase; whoever does not answer one takes no part in the next.

    Args:
        run, round, state: that the sum belongs to.
        job: of the run.
        shapes: of the values, by label.
        authority: by which keys are looked at; none where sites are one machine.
    """

    def __init__(
        self,
        run: str,
        round: int,
        job: JobConfig,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        state: str = NO_STATE,
        authority: Verifier | None = None,
    ):
        self._call = SumCall(run=run, round=round, state=state)
        self._job, self._fingerprint, self._where = job, job.fingerprint(), f"round {round}"
        self._authority = authority or Unsigned()
        self._cards: dict[str, KeyCard] = {}
        self._shares: dict[str, SiteShares] = {}
        self._revealed: dict[str, RevealedShares] = {}
        self._total = {label: torch.zeros(shape, dtype=torch.int64) for label, shape in shapes.items()}
        self.fell_apart = False  # after it had begun, with keys of enough sites
        self.bytes: dict[str, int] = {}
        self.restarts: dict[str, int] = {}
        self.rejected: dict[str, str] = {}

    @property
    def slots(self) -> Slots:
        """The anchors of all that gave keys, by site."""
        return {site: card.slots for site, card in self._cards.items()}

    @property
    def sharers(self) -> tuple[str, ...]:
        """The sites between which masks are laid."""
        return self._call.sharers

    @property
    def survivors(self) -> tuple[str, ...]:
        """The sites that the sum is over."""
        return self._call.survivors

    def gather(self, sites: Iterable[str], ask: Ask) -> dict[str, Tensor]:
        """Ask the sites in five phases for their values, and return the sum, int64 by label.

        Raises:
            RoundFailed: fewer sites than are needed were left in a phase.
        """
        self._ask(ask, KEYS, sites, self.add_keys)
        self._require(len(self._cards), self._least, "sites gave keys")
        self._ask(ask, SHARES, self._cards, self.add_shares)
        self._call = replace(self._call, sharers=tuple(sorted(self._shares)))
        self._require(len(self._shares), self._needed, "sites gave shares of their secrets")
        self._ask(ask, MASKED, self._shares, self.add_values)
        self._require(len(self.survivors), self._needed, "sites gave masked values")
        if not is_hidden(self.slots, self.sharers, self.survivors, self._job.anchors.slots):
            self._fail("a pair of anchors that fewer than three sites are left for")
        self._ask(ask, CONFIRM, self.survivors, self.add_confirmation)
        self._require(len(self._call.confirmed), self._needed, "sites confirmed whom the sum is over")
        self._ask(ask, REVEAL, self.survivors, self.add_revealed)
        self._require(len(self._revealed), self._needed, "sites gave the shares that take the masks off")
        return self._unmasked()

    @property
    def _least(self) -> int:
        return max(LEAST, self._job.aggregation.min_sites)

    @property
    def _needed(self) -> int:
        return max(threshold(len(self._cards)), self._least)

    def _ask(self, ask: Ask, phase: str, sites: Iterable[str], receive: Callable[[Any], None]) -> None:
        """Send each site its call; whatever is wrong with an answer costs that site its part, and no other."""

        def checked(reply: Any) -> None:
            try:
                receive(reply)
            except FedgramError as error:
                self.reject(reply.site, str(error))
                raise

        ask(phase, {site: self._call_to(phase, site) for site in sorted(sites)}, checked, self.reject)

    def _call_to(self, phase: str, site: str) -> SumCall:
        if phase != REVEAL:
            return self._call
        return replace(self._call, shares={sender: sent.shares[site] for sender, sent in self._shares.items()})

    def reject(self, site: str, reason: str) -> None:
        """Note that a site takes no further part."""
        self.rejected.setdefault(site, reason)

    # Answers, each checked before it counts.

    def add_keys(self, reply: SiteKeys) -> None:
        """Take a site's card.

        Raises:
            UpdateRejected: it is none of this sum.
            MaskRefused: it is not signed as the others would have it: one such would keep all from the sum.
        """
        card = read_card(reply.card, reply.site, self._call, self._fingerprint, self._job.anchors.slots)
        self._authority.require(reply.site, reply.card, reply.signature, reply.certificate)
        self._cards[reply.site] = card
        self._call = replace(
            self._call,
            cards={**self._call.cards, reply.site: reply.card},
            signatures={**self._call.signatures, reply.site: reply.signature},
            certificates={**self._call.certificates, reply.site: reply.certificate},
        )

    def add_shares(self, reply: SiteShares) -> None:
        """Take a site's shares for all others.

        Raises:
            UpdateRejected: they are of another sum, or not for exactly those that take part.
        """
        self._check(reply)
        whole = reply.shares.keys() == reply.prints.keys() == self._cards.keys()
        if not whole or {len(each) for each in reply.prints.values()} != {2 * _HASH}:
            raise UpdateRejected("shares for others than take part", where=reply.site)
        self._shares[reply.site] = reply

    def add_values(self, reply: MaskedUpdate) -> None:
        """Add a site's masked values.

        Raises:
            UpdateRejected: they are of another sum, or of other names, shapes or types.
        """
        self._check(reply)
        if reply.site not in self._shares or reply.site in self.survivors:
            raise UpdateRejected("masked values that nobody asked for", where=reply.site)
        shapes = {label: tuple(total.shape) for label, total in self._total.items()}
        if {label: tuple(value.shape) for label, value in reply.sums.items()} != shapes:
            raise UpdateRejected("masked values of other names or shapes", where=reply.site)
        if any(value.dtype != torch.int64 for value in reply.sums.values()):
            raise UpdateRejected("masked values of another type", where=reply.site, expected="int64")
        for label, value in reply.sums.items():
            self._total[label] += value
        self._call = replace(self._call, marks={**self._call.marks, reply.site: reply.mark})
        self.bytes[reply.site] = sum(value.numel() * value.element_size() for value in reply.sums.values())
        if reply.restarts > 0:
            self.restarts[reply.site] = reply.restarts

    def add_confirmation(self, reply: Confirmation) -> None:
        """Take a site's word on whom the sum is over.

        Raises:
            UpdateRejected: it is of another sum.
        """
        self._check(reply)
        self._call = replace(self._call, confirmed={**self._call.confirmed, reply.site: reply.signature})

    def add_revealed(self, reply: RevealedShares) -> None:
        """Take the shares that a site kept for others; each must be the one that it was sent.

        Raises:
            UpdateRejected: they are of another sum, or one does not fit.
        """
        self._check(reply)
        dropped = set(self.sharers) - set(self.survivors)
        if not (reply.seeds.keys() <= set(self.survivors) and reply.keys.keys() <= dropped):
            raise UpdateRejected("shares that nobody asked for", where=reply.site)
        for given, half in ((reply.seeds, 0), (reply.keys, 1)):
            for owner, share in given.items():
                size = KEY_BYTES if half else SEED_BYTES
                found = sha256(unhex(share, reply.site, size)).hexdigest()
                if found != self._shares[owner].prints[reply.site][half * _HASH : (half + 1) * _HASH]:
                    raise UpdateRejected(f"a share of {owner}'s that does not fit", where=reply.site)
        self._revealed[reply.site] = reply

    def _check(self, reply: SiteShares | MaskedUpdate | Confirmation | RevealedShares) -> None:
        if reply.round != self._call.round or reply.context != self._call.context:
            raise UpdateRejected("masks of another round", where=reply.site, expected=f"those of {self._where}")

    # The end: what is left on the sum is taken off.

    def _unmasked(self) -> dict[str, Tensor]:
        """The sum, from which the seeds of survivors and the pairs of those that dropped out are taken."""
        total = {label: value.clone() for label, value in self._total.items()}
        for site in self.survivors:
            seed = self._secret(site, "seeds")
            if sha256(seed).hexdigest() != self._shares[site].seed_print:
                self._fail(f"shares of {site} that give another seed than its own")
            for label, value in total.items():
                value -= stream(seed, label, tuple(value.shape))
        for gone in sorted(set(self.sharers) - set(self.survivors)):
            key = self._secret(gone, "keys")
            if public_key(key).hex() != self._cards[gone].mask_key:
                self._fail(f"shares of {gone} that give another key than its own")
            for site in self.survivors:
                seed = pair_seed(key, self._cards[site].mask_key, self._call, gone, site)
                for label, value in total.items():
                    value -= pair_mask(site, gone, seed, label, tuple(value.shape))
        return total

    def _secret(self, owner: str, kind: str) -> bytes:
        """A secret from the shares that others have revealed."""
        numbers = {site: number for number, site in enumerate(sorted(self._cards), start=1)}
        given = {
            numbers[site]: bytes.fromhex(shares[owner])
            for site, reply in self._revealed.items()
            if owner in (shares := getattr(reply, kind))
        }
        needed = threshold(len(self._cards))
        self._require(len(given), needed, f"sites could read what {owner} sent them")
        return joined(given, needed)

    def _require(self, count: int, least: int, what: str) -> None:
        if count < least:
            self._fail(f"{count} {what}", f"at least {least}")

    def _fail(self, problem: str, expected: str | None = None) -> None:
        self.fell_apart = len(self._cards) >= self._least
        reasons = "; ".join(self.rejected.values()) or "see why the sites did not answer"
        raise RoundFailed(problem, where=self._where, expected=expected, remedy=reasons)
