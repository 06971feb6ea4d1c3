"""Shamir's secret sharing (1979): any t of n shares give a secret, fewer say nothing about it.

Over GF(2¹²⁸) by pycryptodome, 16 bytes at a time.
"""

from __future__ import annotations

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

from fedgram.errors import FedgramError

LEAST = 3  # of two, each would know the other's part of a sum
_BLOCK = 16


def threshold(sites: int) -> int:
    """The shares t that give a secret: ⌈2n/3⌉ and at least 3, so that a third of n ≥ 4 sites may drop out."""
    return max(LEAST, -(-2 * sites // 3))


def split(secret: bytes, needed: int, count: int) -> list[bytes]:
    """Split a secret of a multiple of 16 bytes into ``count`` shares as long as itself, the first numbered 1."""
    blocks = [secret[at : at + _BLOCK] for at in range(0, len(secret), _BLOCK)]
    columns = [Shamir.split(needed, count, block) for block in blocks]
    return [b"".join(share for _, share in row) for row in zip(*columns, strict=True)]


def joined(shares: Mapping[int, bytes], needed: int) -> bytes:
    """The secret that shares give, by their number; which ones are taken makes no difference.

    Raises:
        FedgramError: there are too few, or they are not of one length.
    """
    if len(shares) < needed or len({len(share) for share in shares.values()}) != 1:
        raise FedgramError(f"{len(shares)} shares of a secret", expected=f"{needed}, of one length")
    taken = sorted(shares.items())[:needed]
    size = len(taken[0][1])
    return b"".join(
        Shamir.combine([(number, share[at : at + _BLOCK]) for number, share in taken])
        for at in range(0, size, _BLOCK)
    )
