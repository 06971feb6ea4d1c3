"""From raw contents to frozen tokens at a site: its tokenizers, its cache, its device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fedgram.config.site import SPLIT, SiteConfig
from fedgram.errors import ConfigError
from fedgram.modalities.base import Modality, MovableTokenizer, Tokenizer
from fedgram.modalities.cache import cached_tokens
from fedgram.records import Sample, Tokens


class OnDemand(Sequence[Sample]):
    """Samples that are read when somebody looks at them."""

    def __init__(self, read: Callable[[], Sequence[Sample]]):
        self._read = cache(read)

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]


def make_tokenizer(name: str, modality: Modality, fit_on: Sequence[Sample], config: SiteConfig) -> Tokenizer:
    """The frozen encoder of that name, where the site computes.

    Raises:
        DataError: see :meth:`~fedgram.modalities.base.Modality.tokenizer`.
        ConfigError: the site's device is not there.
    """
    tokenizer = modality.tokenizer(name, fit_on)
    if isinstance(tokenizer, MovableTokenizer):
        tokenizer.to(choose_device(config.device))
    return tokenizer


def tokens_of(modality: Modality, tokenizer: Tokenizer, contents: Sequence[Any], config: SiteConfig) -> Tokens:
    """Frozen tokens φ_m(x) of raw contents, (N, L, d_m), from the site's cache where they are there."""
    prints = [modality.fingerprint(content) for content in contents]
    return cached_tokens(tokenizer, contents, prints, Path(config.cache).expanduser())


def choose_device(name: str) -> torch.device:
    """``auto`` is the first GPU if there is one, else the CPU; ``split`` begins at the first GPU.

    Raises:
        ConfigError: the device is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device("cuda" if name == SPLIT else name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"{name!r} ({error})", where="device", expected="auto, cpu, cuda, cuda:N or split"
        ) from None
    return device
