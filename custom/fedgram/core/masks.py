"""Masks that cancel in a sum, over ℤ/2⁶⁴ (Bonawitz et al. 2017), and the secrets that they come from.

A number of ℤ/2⁶⁴ is an int64 whose sums wrap. Streams and keys are those of `cryptography`: X25519, HKDF-SHA256,
ChaCha20.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import torch
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import Tensor

from fedgram.errors import FedgramError

KEY_BYTES, SEED_BYTES = 32, 16


def derived(secret: bytes, *context: str | int, size: int = KEY_BYTES) -> bytes:
    """Derive bytes from a secret for one purpose and no other: HKDF-SHA256, the context as its info."""
    info = json.dumps(["fedgram masks", *context]).encode()
    return HKDF(algorithm=SHA256(), length=size, salt=None, info=info).derive(secret)


def public_key(private: bytes) -> bytes:
    """The X25519 public key of 32 private bytes."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def agreed(private: bytes, public: bytes) -> bytes:
    """The X25519 secret that two sites share, of one's private and the other's public key.

    Raises:
        FedgramError: a public key that gives the same secret with everybody (of low order), or of another size.
    """
    try:
        theirs = X25519PublicKey.from_public_bytes(public)
        return X25519PrivateKey.from_private_bytes(private).exchange(theirs)
    except ValueError as error:
        raise FedgramError("a public key that is none", expected="32 bytes of X25519") from error


def stream(seed: bytes, label: str, shape: tuple[int, ...]) -> Tensor:
    """The mask of one tensor, int64 of that shape: uniform on ℤ/2⁶⁴ for whoever does not know the seed."""
    empty = torch.zeros(shape, dtype=torch.int64)
    key = derived(seed, "stream", label)
    encryptor = Cipher(ChaCha20(key, bytes(16)), mode=None).encryptor()
    drawn = bytearray(encryptor.update(bytes(8 * empty.numel())))
    return torch.frombuffer(drawn, dtype=torch.int64).reshape(shape) if drawn else empty


def pair_mask(own: str, other: str, seed: bytes, label: str, shape: tuple[int, ...]) -> Tensor:
    """The mask ± PRG(s_uv) of site u towards v, int64: plus where u < v, so that u's and v's add up to 0."""
    mask = stream(seed, label, shape)
    return mask if own < other else -mask


def masked(own: str, values: Mapping[str, Tensor], seed: bytes, pairs: Mapping[str, bytes]) -> dict[str, Tensor]:
    """The masked values y_u = x_u + PRG(b_u) + Σ_v ± PRG(s_uv) mod 2⁶⁴.

    Args:
        own: u, the name of the site.
        values: x_u, int64 by label.
        seed: b_u.
        pairs: s_uv by the name of v.
    """
    return {label: _hidden(own, label, value, seed, pairs) for label, value in values.items()}


def _hidden(own: str, label: str, value: Tensor, seed: bytes, pairs: Mapping[str, bytes]) -> Tensor:
    shape = tuple(value.shape)
    total = value + stream(seed, label, shape)
    for other, shared in pairs.items():
        total += pair_mask(own, other, shared, label, shape)
    return total
