"""Pairs of a bridge site: samples that it has in two modalities, matched by id. Nothing here is ever sent."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fedgram import modalities
from fedgram.config.site import SiteConfig
from fedgram.errors import ConfigError, DataError
from fedgram.records import Sample, Tokens
from fedgram.sites.channel import Channel, open_channel

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
    samples = modality.read(Path(settings.data), settings.reading)
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


def open_pairs(
    name: str, config: SiteConfig, parts: Mapping[str, Sequence[Sample]]
) -> tuple[Channel, dict[str, PairedTokens]]:
    """The second channel of a bridge site, and the tokens of its pairs by split.

    Raises:
        ConfigError: the site has no bridge.
        DataError: see :func:`read_pairs`.
    """
    bridge, found = config.bridge, read_pairs(name, config, parts)
    if bridge is None:
        raise ConfigError("no [bridge] table", where=name)
    fit_on = [pair.sample for pair in found["train"]]
    channel = open_channel(modalities.load(bridge.modality), bridge.tokenizer, bridge.window, fit_on, config)
    pairs = {
        part: PairedTokens(
            rows=torch.tensor([pair.row for pair in some], dtype=torch.long),
            tokens=channel.tokens_of([pair.sample.content for pair in some]),
        )
        for part, some in found.items()
    }
    log.info("%s: %s pairs", name, {part: len(some) for part, some in pairs.items()})
    return channel, pairs
