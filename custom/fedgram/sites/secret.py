"""A secret of the site, from which it draws what is random, so that no job foretells its weights or batches."""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import replace
from hashlib import shake_256
from pathlib import Path

import numpy as np
import torch

from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.errors import ConfigError
from fedgram.sites.base import derive_generator

FILE = "secret"
_BYTES = 32
_BEFORE, _WORDS = 24, 624  # bytes before the words in PyTorch's state of a CPU generator, and how many these are


def with_secret(config: SiteConfig, folder: Path) -> SiteConfig:
    """The settings of a site with its secret: that of its own file, else one drawn once and kept.

    Args:
        folder: of the site's own state, where ``secret`` is readable by its owner only.

    Raises:
        ConfigError: the secret that is kept there is damaged.
    """
    if config.secret is not None:
        return config
    path = folder / FILE
    if not path.exists():
        _draw(path)
    kept = path.read_text(encoding="ascii", errors="replace")
    if not re.fullmatch(f"[0-9a-f]{{{2 * _BYTES}}}", kept):
        raise ConfigError(
            "damaged",
            where=path,
            expected=f"{2 * _BYTES} hexadecimal digits",
            remedy="restore it to go on with a run that was interrupted; delete it and another is drawn",
        )
    return replace(config, secret=kept)


def _draw(path: Path) -> None:
    """Write a new secret; of two processes that do it at once, one wins for both."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = secrets.token_hex(_BYTES)
    part = path.with_name(f"{FILE}.{drawn[:8]}.part")
    try:
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
            file.write(drawn)
            file.flush()
            os.fsync(file.fileno())
        os.link(part, path)
    except FileExistsError:
        return  # the other's
    finally:
        part.unlink(missing_ok=True)


def private_generator(name: str, config: SiteConfig, job: JobConfig, *what: object) -> torch.Generator:
    """A CPU generator for something of the site, the same in any process that knows the site's secret.

    Without a secret (an empty one) it follows from the job alone. A seed of PyTorch's generator has 32 bits of
    effect, which a server could try one by one; with a secret its whole state is filled instead.

    Raises:
        ConfigError: the settings have no secret yet.
    """
    if config.secret is None:
        raise ConfigError(
            "no secret to draw from",
            where=name,
            expected="one of the site's own",
            remedy="with_secret(config, folder) draws and keeps one; an empty one lets all follow from the job",
        )
    if not config.secret:
        return derive_generator(job.seed, name, *what)
    return _filled("|".join(map(str, (job.seed, name, *what, config.secret))).encode())


def _filled(key: bytes) -> torch.Generator:
    """A CPU generator all of whose state, 624 words of the Mersenne Twister, follows from a key."""
    generator = torch.Generator().manual_seed(0)  # after a seed the next number begins a new block of words
    words = np.frombuffer(shake_256(key).digest(4 * _WORDS), dtype="<u4").astype(np.int64)
    state = generator.get_state()
    state[_BEFORE : _BEFORE + 8 * _WORDS] = torch.from_numpy(words).view(torch.uint8)
    return generator.set_state(state)
