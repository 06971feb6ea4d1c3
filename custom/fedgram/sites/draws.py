"""Random numbers that nobody foretells: AES in counter mode, keyed by the site's secret and by what is computed.

A site that is killed and starts again draws the same numbers for the same computation, so that its reply is the
same to the bit. A server that asks again with another state, or a site with other data, never meets them again:
two replies with the same noise would differ by what the noise was to hide.
"""

from __future__ import annotations

import hmac
from hashlib import sha256

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from torch import Tensor

from fedgram.config.site import SiteConfig
from fedgram.core.privacy import box_muller
from fedgram.errors import ConfigError

_SHORTEST = 32  # characters of a secret: whoever guesses it knows the noise, or the masks


class Draws:
    """A stream of numbers that follows from a key alone.

    Args:
        key: 32 bytes.
    """

    def __init__(self, key: bytes):
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def uniform(self, count: int) -> Tensor:
        """Numbers in (0, 1), (count,), float64, of 52 bits; never 0 or 1."""
        words = np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")
        return torch.from_numpy(((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52)

    def normal(self, count: int) -> Tensor:
        """Standard normal numbers, (count,), float64."""
        return box_muller(self.uniform(count + count % 2))[:count]


def private_draws(name: str, config: SiteConfig, what: bytes) -> Draws:
    """The stream of a site for one computation.

    Args:
        what: a digest of all that the computation starts from.

    Raises:
        ConfigError: the secret is missing, or so short that it can be guessed.
    """
    secret = require_secret(name, config)
    return Draws(hmac.digest(secret.encode(), b"fedgram/privacy/1|" + what, sha256))


def require_secret(name: str, config: SiteConfig, where: str = "with [privacy]") -> str:
    """The secret of a site, from which noise or masks are drawn.

    Args:
        where: they are, for the message.

    Raises:
        ConfigError: it is missing, or so short that it can be guessed.
    """
    if config.secret is None or len(config.secret) < _SHORTEST:
        raise ConfigError(
            f"a secret of {len(config.secret or '')} characters, {where}",
            where=f"{name}: secret",
            expected=f"at least {_SHORTEST}, as whoever guesses it knows the noise or the masks",
            remedy="leave `secret` out of the site file: one is drawn and kept with the site's state",
        )
    return config.secret
