"""The messages of a masked sum: what the server asks in its five phases, and what sites answer.

Keys and shares travel as hexadecimal digits.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise

import torch
from torch import Tensor

from fedgram.config.strict import from_dict, to_dict
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.records import GlobalState
from fedgram.training.codec import pack

KEYS, SHARES, MASKED, CONFIRM, REVEAL = "mask_keys", "mask_shares", "masked", "confirm", "reveal"
PHASES = (KEYS, SHARES, MASKED, CONFIRM, REVEAL)
NO_STATE = "0" * 64  # its digest, before the first round
_HEX = re.compile(r"(?:[0-9a-f]{2})*")


@dataclass(frozen=True, kw_only=True)
class KeyCard:
    """Everything that a site signs: its keys for one sum, and which anchors it adds to.

    Attributes:
        site: whose it is.
        run: of the job, as the server names it.
        round: 0 for the first Ḡ, then those of training.
        job: fingerprint of its settings.
        state: digest of the global state that the round begins with.
        cipher_key: X25519, for what other sites send to this one.
        mask_key: X25519, for the masks between this site and each other.
        slots: anchors that the site covers, ascending.
    """

    site: str
    run: str
    round: int
    job: str
    state: str
    cipher_key: str
    mask_key: str
    slots: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class SumCall:
    """A phase of a masked sum, as the server asks for it.

    Attributes:
        run, round, state: of the sum, as on the cards.
        cards: of all sites that take part, by site, as signed; empty in the first phase.
        signatures, certificates: of these cards.
        sharers: the sites that have sent shares, between which masks are laid.
        marks: of the sites whose masked values have come, what each has signed about its masks.
        confirmed: of the sites that have confirmed whom the sum is over, what each has signed.
        shares: to the site that is asked, by sender.
    """

    run: str
    round: int
    state: str
    cards: Mapping[str, str] = field(default_factory=dict)
    signatures: Mapping[str, str] = field(default_factory=dict)
    certificates: Mapping[str, str] = field(default_factory=dict)
    sharers: tuple[str, ...] = ()
    marks: Mapping[str, str] = field(default_factory=dict)
    confirmed: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, str] = field(default_factory=dict)

    @property
    def survivors(self) -> tuple[str, ...]:
        """The sites whose masked values have come, in alphabetical order."""
        return tuple(sorted(self.marks))

    @property
    def mask_text(self) -> str:
        """The text that a site signs when it masks: between whom the masks of this sum are laid."""
        return json.dumps(["masks", self.context, sorted(self.sharers)])

    @property
    def sum_text(self) -> str:
        """The text that a site signs before it gives shares: whom this sum is over."""
        return json.dumps(["sum", self.context, sorted(self.sharers), self.survivors])

    @property
    def context(self) -> str:
        """The sha256 of all cards: whatever belongs to one sum names it."""
        return sha256(json.dumps(sorted(self.cards.items())).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class SiteKeys:
    """A site's answer in the first phase: its card, signed."""

    site: str
    round: int
    card: str
    signature: str
    certificate: str


@dataclass(frozen=True, kw_only=True)
class SiteShares:
    """A site's answer in the second phase: its secrets of this sum, in shares.

    Attributes:
        site, round, context: of the sum.
        shares: by recipient, encrypted for it.
        prints: by recipient, the sha256 of its share of the seed and of the key, one after the other.
        seed_print: sha256 of the seed itself.
    """

    site: str
    round: int
    context: str
    shares: Mapping[str, str]
    prints: Mapping[str, str]
    seed_print: str


@dataclass(frozen=True, kw_only=True)
class MaskedUpdate:
    """A site's answer in the third phase.

    Attributes:
        site, round, context: of the sum.
        sums: values under masks, int64, by label.
        mark: its signature of the sites between which the masks are laid.
        restarts: of its training process in this round.
    """

    site: str
    round: int
    context: str
    sums: Mapping[str, Tensor]
    mark: str
    restarts: int = 0


@dataclass(frozen=True, kw_only=True)
class Confirmation:
    """A site's answer in the fourth phase: its signature of whom the sum is over, the only one that it gives."""

    site: str
    round: int
    context: str
    signature: str


@dataclass(frozen=True, kw_only=True)
class RevealedShares:
    """A site's answer in the last phase: of each other site one share, of the seed or of the key, never both.

    Attributes:
        site, round, context: of the sum.
        seeds: of sites that survived, by site.
        keys: of sites that dropped out.
    """

    site: str
    round: int
    context: str
    seeds: Mapping[str, str]
    keys: Mapping[str, str]


def digest(state: GlobalState) -> str:
    """The sha256 of a global state, of all its names, shapes and bytes."""
    tensors, facts = pack(state)
    found = sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        found.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def written(card: KeyCard) -> str:
    """A card as text, the one that is signed."""
    return json.dumps(to_dict(card), sort_keys=True)


def read_card(text: str, site: str, call: SumCall, job: str, slots: int) -> KeyCard:
    """Read a site's card for one sum.

    Args:
        job: fingerprint of its settings.
        slots: B, of its anchors.

    Raises:
        UpdateRejected: it is of another site, run, round, job or state, or no card of that form.
    """
    try:
        card = from_dict(KeyCard, json.loads(text), "card")
    except (ValueError, RecursionError, ConfigError) as error:
        raise UpdateRejected("keys that are none", where=site, expected="a card") from error
    belongs = {"site": site, "run": call.run, "round": call.round, "job": job, "state": call.state}
    for name, wanted in belongs.items():
        if getattr(card, name) != wanted:
            raise UpdateRejected(f"keys of another {name}", where=site, expected="keys made for this sum")
    if written(card) != text:
        raise UpdateRejected("keys in a form of their own", where=site, expected="a card as fedgram writes it")
    for key in (card.cipher_key, card.mask_key):
        unhex(key, site, 32)
    ascending = all(a < b for a, b in pairwise(card.slots))
    if not card.slots or not ascending or card.slots[0] < 0 or card.slots[-1] >= slots:
        raise UpdateRejected("anchor slots out of range or order", where=site)
    return card


def unhex(digits: str, site: str, size: int | None = None) -> bytes:
    """The bytes of hexadecimal digits.

    Raises:
        UpdateRejected: they are anything else, or not ``size`` bytes.
    """
    if not _HEX.fullmatch(digits) or (size is not None and len(digits) != 2 * size):
        expected = f"hexadecimal digits{f' of {size} bytes' if size else ''}"
        raise UpdateRejected("bytes that are none", where=site, expected=expected)
    return bytes.fromhex(digits)
