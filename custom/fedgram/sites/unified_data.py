"""The questions and captions of a unified site, split by picture, and their pictures as its model sees them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from PIL.Image import Image
from torch import Tensor

from fedgram.config.site import SiteConfig
from fedgram.data import splits
from fedgram.data.captions import read_captions
from fedgram.data.items import Caption, Question
from fedgram.data.pixels import Picture
from fedgram.data.vqa import read_vqa
from fedgram.errors import DataError
from fedgram.model.unified.base import UnifiedModel
from fedgram.records import Sample, Tokens
from fedgram.sites.seen import in_batches, mapped

Item = TypeVar("Item", Question, Caption)


@dataclass(frozen=True)
class Items:
    """The questions and captions of a split or a site."""

    questions: tuple[Question, ...]
    captions: tuple[Caption, ...]

    def __len__(self) -> int:
        return len(self.questions) + len(self.captions)


@dataclass(frozen=True)
class UnifiedData:
    """Questions and captions of one split, with their pictures as the model sees them.

    Attributes:
        items: Q questions and C captions; a sample is one of them, questions first.
        seen: (P, L, d_v), of each picture.
        rows: (Q + C,), of each sample's picture in ``seen``.
        targets: (C, …), what each caption's picture is to be made as.
    """

    items: Items
    seen: Tensor
    rows: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.items)

    def take(self, samples: Tensor) -> Tokens:
        """The pictures of some samples."""
        return as_tokens(self.seen[self.rows[samples]])


def read_items(config: SiteConfig) -> Items:
    """All questions and captions of a site.

    Raises:
        ConfigError: this is a site of one modality.
        DataError: by file and entry.
    """
    settings = config.require_unified()
    questions = read_vqa(Path(settings.questions)) if settings.questions is not None else []
    captions = read_captions(Path(settings.captions)) if settings.captions is not None else []
    return Items(tuple(questions), tuple(captions))


def read_rehearsal(config: SiteConfig) -> Items:
    """The public captions that a site rehearses; none where its file names none.

    Raises:
        ConfigError: this is a site of one modality.
        DataError: by file and entry.
    """
    named = config.require_unified().rehearsal
    return Items((), () if named is None else tuple(read_captions(Path(named))))


def split_items(items: Items) -> dict[str, Items]:
    """Split items by picture: all that is about one picture is in ``train``, ``validation`` or ``test``.

    Raises:
        DataError: the data put one picture into two splits, or train on none.
    """
    pictures: dict[str, Sample] = {}
    for item in (*items.questions, *items.captions):
        key = _key(item)
        first = pictures.setdefault(
            key,
            Sample(
                id=item.id,
                concept=item.concept,
                group=key,
                content=None,
                target="",
                split=item.split,
                source=str(item.image),
            ),
        )
        if item.split != first.split:
            raise DataError(f"in {first.split!r} and {item.split!r}", where=item.image, expected="one split")
    parts = {part: {s.group for s in found} for part, found in splits.split([*pictures.values()]).items()}
    return {part: Items(_of(items.questions, keys), _of(items.captions, keys)) for part, keys in parts.items()}


def _of(items: Sequence[Item], keys: set[str]) -> tuple[Item, ...]:
    return tuple(item for item in items if _key(item) in keys)


def _key(item: Question | Caption) -> str:
    """Names a picture wherever the data lie, so that a copy of them is split alike."""
    return f"{item.image.parent.name}/{item.image.name}"


def look(items: Items, model: UnifiedModel, cache: Path | None = None) -> UnifiedData:
    """Run each picture once through the frozen parts of the model.

    Args:
        cache: the site's, for what is seen and for the targets; when absent, they are kept in memory.

    Raises:
        CheckpointError: the cache cannot be written.
        DataError: a picture cannot be read.
    """

    def made(what: Callable[[Sequence[Image]], Tensor], pictures: Sequence[Picture]) -> Tensor:
        if cache is None:
            return in_batches(what, pictures)
        return mapped(what, pictures, model.identity(what.__name__), cache)

    paths = [item.image for item in (*items.questions, *items.captions)]
    numbers = {path: i for i, path in enumerate(dict.fromkeys(paths))}
    seen = made(model.see, [Picture(path) for path in numbers])
    targets = made(model.targets, [Picture(caption.image) for caption in items.captions])
    return UnifiedData(items, seen, torch.tensor([numbers[path] for path in paths], dtype=torch.long), targets)


def as_tokens(seen: Tensor) -> Tokens:
    """Pictures in the form that the rest of fedgram has them: every token is there."""
    return Tokens(seen, torch.ones(seen.shape[:2], dtype=torch.bool))


def counts(parts: Mapping[str, Items]) -> dict[str, tuple[int, int]]:
    """Questions and captions by split."""
    return {part: (len(items.questions), len(items.captions)) for part, items in parts.items()}
