"""A site's part in a masked sum: five answers, each from the site's secret and what the server asks, and no more.

A site keeps nothing in between but its :class:`~fedgram.training.masked.memory.Memory`: one that was killed and
asked again gives the same keys, the same masks and the same masked values, because all of them follow from its
secret and the cards of the sum.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from torch import Tensor

from fedgram.core.masks import KEY_BYTES, SEED_BYTES, agreed, derived, masked, public_key
from fedgram.core.shares import LEAST, split, threshold
from fedgram.errors import FedgramError, MaskRefused
from fedgram.training.masked.coverage import is_hidden
from fedgram.training.masked.identity import Identity
from fedgram.training.masked.memory import Memory
from fedgram.training.masked.messages import (
    Confirmation,
    KeyCard,
    MaskedUpdate,
    RevealedShares,
    SiteKeys,
    SiteShares,
    SumCall,
    read_card,
    unhex,
    written,
)

_NONCE = 12


@dataclass(frozen=True, kw_only=True)
class Member:
    """A site that takes part in masked sums.

    Attributes:
        name: of the site.
        secret: of the site, from which all its keys are drawn.
        job: fingerprint of its settings.
        seed: of the job.
        anchors: B, of the job.
        slots: of these that it covers.
        identity: that signs for it.
        memory: of what it has done.
    """

    name: str
    secret: str
    job: str
    seed: int
    anchors: int
    slots: tuple[int, ...]
    identity: Identity
    memory: Memory

    def keys(self, call: SumCall) -> SiteKeys:
        """The keys of this site for one sum, on a card that it signs."""
        text = written(self._card(call))
        signature, certificate = self.identity.sign(text)
        return SiteKeys(site=self.name, round=call.round, card=text, signature=signature, certificate=certificate)

    def shares(self, call: SumCall) -> SiteShares:
        """The seed and the mask key of this site in shares, each encrypted for the site that keeps it.

        Raises:
            MaskRefused: see :meth:`peers`.
        """
        peers = self.peers(call)
        needed, seed, key = threshold(len(peers)), self._seed(call), self._private("mask", call)
        seeds, keys = (split(secret, needed, len(peers)) for secret in (seed, key))
        sent, prints = {}, {}
        for other, own, part in zip(sorted(peers), seeds, keys, strict=True):
            nonce = os.urandom(_NONCE)
            cipher = self._cipher(call, self.name, other, peers[other])
            sent[other] = (nonce + cipher.encrypt(nonce, own + part, call.context.encode())).hex()
            prints[other] = sha256(own).hexdigest() + sha256(part).hexdigest()
        return SiteShares(
            site=self.name,
            round=call.round,
            context=call.context,
            shares=sent,
            prints=prints,
            seed_print=sha256(seed).hexdigest(),
        )

    def mask(self, call: SumCall, values: Mapping[str, Tensor]) -> MaskedUpdate:
        """The values of this site under its masks.

        Args:
            values: int64 by label.

        Raises:
            MaskRefused: see :meth:`peers`; too few sharers, or another value under the same masks.
        """
        peers, sharers = self.peers(call), set(call.sharers)
        if not sharers <= peers.keys() or self.name not in sharers or len(sharers) < threshold(len(peers)):
            raise MaskRefused(
                f"masks between {len(sharers)} of {len(peers)} sites",
                where=self.name,
                expected=f"this one and others, {threshold(len(peers))} or more",
            )
        self.memory.masks(call, values)
        private, others = self._private("mask", call), sorted(sharers - {self.name})
        pairs = {other: pair_seed(private, peers[other].mask_key, call, self.name, other) for other in others}
        return MaskedUpdate(
            site=self.name,
            round=call.round,
            context=call.context,
            sums=masked(self.name, values, self._seed(call), pairs),
            mark=self.identity.sign(call.mask_text)[0],
        )

    def confirm(self, call: SumCall) -> Confirmation:
        """The signature of this site on whom the sum is over, after which it signs no other for it.

        Raises:
            MaskRefused: see :meth:`peers`; the sum would be of too few sites, or tell too much of a pair of
                anchors, or one of the same seed was over others.
        """
        self._survivors(call, self.peers(call))
        self.memory.confirms(call, self.seed)
        signature, _ = self.identity.sign(call.sum_text)
        return Confirmation(site=self.name, round=call.round, context=call.context, signature=signature)

    def reveal(self, call: SumCall) -> RevealedShares:
        """One share of each other site: of its seed where its values came, of its mask key where they did not.

        A share that cannot be read is left out; the server sees who sent it.

        Raises:
            MaskRefused: see :meth:`confirm`; or too few sites have confirmed the same.
        """
        peers = self.peers(call)
        survivors = self._survivors(call, peers)
        self.memory.require_confirmed(call, self.seed)
        needed, confirmed = threshold(len(peers)), call.confirmed.keys() & survivors
        if len(confirmed) < needed:
            raise MaskRefused(
                f"a sum that {len(confirmed)} sites confirm", where=self.name, expected=f"{needed} or more"
            )
        for site in confirmed:
            self.identity.require(site, call.sum_text, call.confirmed[site], call.certificates.get(site, ""))
        found = {other: self._opened(call, other, peers[other]) for other in sorted(call.sharers)}
        there = {other: both for other, both in found.items() if both is not None}
        return RevealedShares(
            site=self.name,
            round=call.round,
            context=call.context,
            seeds={other: both[:SEED_BYTES].hex() for other, both in there.items() if other in survivors},
            keys={other: both[SEED_BYTES:].hex() for other, both in there.items() if other not in survivors},
        )

    def _survivors(self, call: SumCall, peers: Mapping[str, KeyCard]) -> set[str]:
        """The sites that the sum is over, who have all signed between whom their masks are laid."""
        sharers, survivors, needed = set(call.sharers), set(call.survivors), threshold(len(peers))
        if not survivors <= sharers <= peers.keys() or len(survivors) < needed:
            raise MaskRefused(
                f"a sum over {len(survivors)} of {len(peers)} sites", where=self.name, expected=f"{needed} or more"
            )
        slots = {site: card.slots for site, card in peers.items()}
        if not is_hidden(slots, sharers, survivors, self.anchors):
            raise MaskRefused(
                "a pair of anchors that fewer than three sites are left for",
                where=self.name,
                remedy="the next round leaves it out",
            )
        for site, mark in call.marks.items():
            self.identity.require(site, call.mask_text, mark, call.certificates.get(site, ""))
        return survivors

    def peers(self, call: SumCall) -> dict[str, KeyCard]:
        """The cards of all that take part, this site's among them, each signed and made for this sum.

        With them this site takes part, which its memory keeps before anything is trained, shared or masked.

        Raises:
            MaskRefused: fewer than three, this site's card is another than its own, or one is not signed; or this
                site has taken part in this round with others, or in a later one.
            UpdateRejected: a card of another sum, or none.
        """
        if len(call.cards) < LEAST:
            raise MaskRefused(f"a sum over {len(call.cards)} sites", where=self.name, expected="three or more")
        if call.cards.get(self.name) != written(self._card(call)):
            raise MaskRefused("keys in this site's name that are not its own", where=self.name)
        found = {site: read_card(text, site, call, self.job, self.anchors) for site, text in call.cards.items()}
        for site, text in call.cards.items():
            self.identity.require(site, text, call.signatures.get(site, ""), call.certificates.get(site, ""))
        self.memory.joins(call, self.job)
        return found

    def _card(self, call: SumCall) -> KeyCard:
        return KeyCard(
            site=self.name,
            run=call.run,
            round=call.round,
            job=self.job,
            state=call.state,
            cipher_key=public_key(self._private("cipher", call)).hex(),
            mask_key=public_key(self._private("mask", call)).hex(),
            slots=self.slots,
        )

    def _private(self, what: str, call: SumCall) -> bytes:
        """A private key for one sum, the same whenever it is asked for."""
        occasion = (call.run, call.round, call.state, self.job)
        return derived(self.secret.encode(), self.name, what, *occasion)

    def _seed(self, call: SumCall) -> bytes:
        """The seed b of this site's own mask; other sites in the sum, another seed."""
        return derived(self.secret.encode(), self.name, "seed", call.context, size=SEED_BYTES)

    def _cipher(self, call: SumCall, sender: str, recipient: str, other: KeyCard) -> ChaCha20Poly1305:
        """The cipher between this site and another, of shares that one sends to the other."""
        secret = agreed(self._private("cipher", call), bytes.fromhex(other.cipher_key))
        return ChaCha20Poly1305(derived(secret, "share", call.context, sender, recipient))

    def _opened(self, call: SumCall, sender: str, card: KeyCard) -> bytes | None:
        """Both shares that another site has sent to this one; None where they cannot be read."""
        try:
            sent = unhex(call.shares.get(sender, ""), sender)
            cipher = self._cipher(call, sender, self.name, card)
            both = cipher.decrypt(sent[:_NONCE], sent[_NONCE:], call.context.encode())
        except (FedgramError, InvalidTag, ValueError):
            return None
        return both if len(both) == SEED_BYTES + KEY_BYTES else None


def pair_seed(private: bytes, public: str, call: SumCall, one: str, other: str) -> bytes:
    """The seed s_uv of the mask between two sites in one sum, alike at both, and from either's private key.

    Args:
        private: mask key of one.
        public: mask key of the other, hexadecimal.
    """
    return derived(agreed(private, bytes.fromhex(public)), "pair", call.context, *sorted((one, other)))
