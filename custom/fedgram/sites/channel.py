"""One kind of data at a site, on its way from raw contents to frozen tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fedgram.config.site import SiteConfig
from fedgram.modalities.base import KeptTokenizer, Modality, MovableTokenizer, Tokenizer
from fedgram.modalities.cache import cached_tokens
from fedgram.records import Sample, Tokens
from fedgram.sites.device import choose_device


@dataclass(frozen=True)
class Channel:
    """A modality at a site with its frozen tokenizer; a bridge site has two, each with an adapter of its own.

    Attributes:
        modality, tokenizer: how its data become tokens.
        window: the intensities that images of more than 8 bits are seen through.
        cache: folder of the tokens that were computed before.
    """

    modality: Modality
    tokenizer: Tokenizer
    window: tuple[float, ...] | None
    cache: Path

    def tokens_of(self, contents: Sequence[Any]) -> Tokens:
        """Frozen tokens φ_m(x) of raw contents, (N, L, d_m), from the cache where they are there."""
        prints = [self.modality.fingerprint(content) for content in contents]
        return cached_tokens(self.tokenizer, contents, prints, self.cache)

    @property
    def statistics(self) -> Mapping[str, Any] | None:
        """Everything that the tokenizer took of the training samples; None where it cannot tell."""
        return self.tokenizer.statistics if isinstance(self.tokenizer, KeptTokenizer) else None


def open_channel(
    modality: Modality,
    tokenizer: str,
    window: tuple[float, ...] | None,
    fit_on: Sequence[Sample],
    config: SiteConfig,
    statistics: Mapping[str, Any] | None = None,
) -> Channel:
    """Make the frozen encoder of that name, where the site computes.

    Args:
        fit_on: the training samples, for encoders that depend on them.
        statistics: that the encoder has kept of them, where it has.

    Raises:
        DataError: see :meth:`~fedgram.modalities.base.Modality.tokenizer`.
        ConfigError: the site's device is not there.
    """
    tokenizer_of: Callable[..., Tokenizer] = modality.tokenizer  # some take statistics, see the protocol
    encoder = tokenizer_of(tokenizer, fit_on) if statistics is None else tokenizer_of(tokenizer, (), statistics)
    if isinstance(encoder, MovableTokenizer):
        encoder.to(choose_device(config.device))
    return Channel(modality, encoder, window, Path(config.cache))


class OnDemand(Sequence[Sample]):
    """Samples that are read when somebody looks at them."""

    def __init__(self, read: Callable[[], Sequence[Sample]]):
        self._read = cache(read)

    def __len__(self) -> int:
        return len(self._read())

    def __getitem__(self, index: Any) -> Any:
        return self._read()[index]
