"""Pairs of a bridge site: samples that it has in two modalities, matched by id. Nothing here is ever sent."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fedgram import modalities
from fedgram.config.site import BridgeConfig, SiteConfig
from fedgram.demo.files import locate
from fedgram.errors import DataError
from fedgram.modalities.base import Modality, Tokenizer
from fedgram.records import Sample, Tokens
from fedgram.sites.samples import read_samples, split_samples
from fedgram.sites.tokens import OnDemand, make_tokenizer, tokens_of

log = logging.getLogger("fedgram.site")


@dataclass(frozen=True)
class Pair:
    """One sample in its second modality.

    Attributes:
        row: of the sample in its split of the first modality.
        sample: in the second modality.
    """

    row: int
    sample: Sample


@dataclass(frozen=True)
class PairedTokens:
    """The pairs of one split.

    Attributes:
        rows: (P,) int64, of the samples among the tokens of their split.
        tokens: the same samples in the second modality, in the same order.
    """

    rows: Tensor
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.rows)


@dataclass(frozen=True)
class Bridge:
    """The second modality of a site.

    Attributes:
        settings: what the site file says of it.
        modality, tokenizer: how its data become tokens.
        pairs: by split; none at a site that is not opened to train.
    """

    settings: BridgeConfig
    modality: Modality
    tokenizer: Tokenizer
    pairs: Mapping[str, PairedTokens]


def read_pairs(name: str, config: SiteConfig, parts: Mapping[str, Sequence[Sample]]) -> dict[str, list[Pair]]:
    """The pairs of a site by split, if it has a bridge; samples of one modality alone are in none.

    A pair is on the side of its first sample. Samples of the second modality that belong to one group must end up
    on one side: else something of a patient would be trained on and something tested.

    Args:
        name: of the site, for messages.
        config: its site file.
        parts: samples of the first modality by split.

    Raises:
        ConfigError: there is no such modality.
        DataError: the second modality cannot be read, fewer than 2 pairs train, or its own groups or its own split
            contradict the split of the first.
    """
    settings = config.bridge
    if settings is None:
        return {}
    modality = modalities.load(settings.modality)
    samples = modality.read(locate(settings.data, Path(config.cache).expanduser()), settings.reading)
    second = {sample.id: sample for sample in samples}
    pairs = {
        part: [Pair(row, second[first.id]) for row, first in enumerate(firsts) if first.id in second]
        for part, firsts in parts.items()
    }
    if not any(pairs.values()):
        raise DataError(
            "no pairs: no id of the first modality is among those of the second",
            where=f"{name}: bridge",
            expected="a column of ids in both, spelled alike; a file in a folder is called by its path there",
            remedy="correct the ids, or name their columns as `id` under [columns] and [bridge.columns]",
        )
    if len(pairs["train"]) < 2:
        raise DataError(
            f"{len(pairs['train'])} of {sum(map(len, pairs.values()))} pairs to train on",
            where=f"{name}: bridge",
            expected="at least 2: a pair is learnt by telling it from others",
            remedy="add pairs of other groups (patients), or take [bridge] out of the site file",
        )
    for part, found in pairs.items():
        _require_own_split(part, found)
    _require_one_side(pairs)
    return pairs


def _require_own_split(part: str, pairs: Iterable[Pair]) -> None:
    for pair in pairs:
        if pair.sample.split not in ("", part):
            raise DataError(
                f"in {pair.sample.split} here, and in {part} in the first modality",
                where=pair.sample.source,
                remedy='let both tables say the same split, or say `split = ""` under [bridge.columns]',
            )


def _require_one_side(pairs: Mapping[str, Sequence[Pair]]) -> None:
    side: dict[str, tuple[str, Sample]] = {}
    for part, found in pairs.items():
        for pair in found:
            other, first = side.setdefault(pair.sample.group, (part, pair.sample))
            if other != part:
                raise DataError(
                    f"one group of the second modality is in {other} and in {part} in the first",
                    where=f"{first.source} and {pair.sample.source}",
                    expected="groups (patients) that the first modality's table does not tear apart",
                    remedy='correct `group` in one of the tables; `group = "id"` under [bridge.columns] leaves it '
                    "to the first",
                )


def open_bridge(name: str, config: SiteConfig, parts: Mapping[str, Sequence[Sample]]) -> Bridge | None:
    """The second modality of a site that has one, with the pairs of each split.

    Raises:
        ConfigError, DataError: as :func:`read_pairs`; its modality or tokenizer is not there.
    """
    settings = config.bridge
    if settings is None:
        return None
    modality = modalities.load(settings.modality)
    pairs = read_pairs(name, config, parts)
    tokenizer = make_tokenizer(settings.tokenizer, modality, [pair.sample for pair in pairs["train"]], config)
    tokens = {
        part: PairedTokens(
            torch.tensor([pair.row for pair in found], dtype=torch.long),
            tokens_of(modality, tokenizer, [pair.sample.content for pair in found], config),
        )
        for part, found in pairs.items()
    }
    log.info("%s: %s pairs", name, {part: len(found) for part, found in pairs.items()})
    return Bridge(settings, modality, tokenizer, tokens)


def reopen_bridge(name: str, config: SiteConfig, first: Modality) -> Bridge | None:
    """The second modality for use after training; data are read only where its tokenizer depends on them.

    Raises:
        ConfigError, DataError: as :func:`open_bridge`.
    """
    settings = config.bridge
    if settings is None:
        return None
    modality = modalities.load(settings.modality)

    def trained() -> list[Sample]:
        parts = split_samples(name, read_samples(config, first), config.concepts)
        return [pair.sample for pair in read_pairs(name, config, parts)["train"]]

    return Bridge(settings, modality, make_tokenizer(settings.tokenizer, modality, OnDemand(trained), config), {})
