"""A site's samples, read as its site file says and split by group."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedgram.config.site import SiteConfig
from fedgram.data import splits
from fedgram.errors import DataError
from fedgram.modalities.base import Modality
from fedgram.model.tasks import Task
from fedgram.records import LabelledTokens, Sample
from fedgram.sites.channel import Channel


def read_samples(config: SiteConfig, modality: Modality) -> list[Sample]:
    """All samples of a site.

    Raises:
        DataError: by file, row and column.
    """
    return modality.read(Path(config.data), config.reading)


def split_samples(
    name: str, samples: Sequence[Sample], concepts: Sequence[str], *, apart: bool = False
) -> dict[str, list[Sample]]:
    """Split the samples of the given concepts (all when empty) by group: ``train``, ``validation`` and ``test``.

    Args:
        apart: each group by itself, whatever the others are: where differential privacy is promised.

    Raises:
        DataError: a concept without samples.
    """
    if apart:
        return splits.split_each([s for s in samples if not concepts or s.concept in concepts])
    present = {s.concept for s in samples}
    absent = sorted(set(concepts) - present)
    if absent:
        raise DataError(f"no sample of {absent}", where=f"{name}: concepts", expected=", ".join(sorted(present)))
    wanted = set(concepts) or present
    return {part: [s for s in rows if s.concept in wanted] for part, rows in splits.split(samples).items()}


def concepts_of(samples: Sequence[Sample]) -> list[str]:
    """The concepts that samples name, sorted; none where the targets are something else."""
    return sorted({s.concept for s in samples} - {""})


def labelled(channel: Channel, samples: Sequence[Sample], task: Task) -> LabelledTokens:
    """The frozen tokens and targets of samples of one split."""
    return LabelledTokens(
        tokens=channel.tokens_of([s.content for s in samples]),
        targets=task.targets(samples, channel.tokenizer),
        concepts=tuple(s.concept for s in samples),
        groups=tuple(s.group for s in samples),
    )
