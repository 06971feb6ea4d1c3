"""Findings about anchors and tokens: what training would refuse when it opens the site."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedgram.anchors import AnchorSet
from fedgram.checks.finding import Finding, from_error
from fedgram.data.rows import Row, aligned
from fedgram.errors import DataError, FedgramError
from fedgram.modalities.base import MapTokenizer, Modality, MovableTokenizer, Tokenizer
from fedgram.records import Sample

_SHOWN, _BATCH = 3, 64

Named = tuple[str, Any]  # a content and where it is from


def refused(
    config: SiteConfig | BridgeConfig,
    modality: Modality,
    parts: Mapping[str, Sequence[Sample]],
    anchors: Sequence[AnchorSet] = (),
    task: Task | None = None,
) -> Iterator[Finding]:
    """Contents and targets that the site's tokenizer and task cannot take, and too many tokens.

    A tokenizer without an encoder is tried on all samples and anchors. One with an encoder takes one, and says of
    the others whether it can (:class:`~fedgram.modalities.base.ScreeningTokenizer`): their tokens take minutes.
    """
    own = [(sample.source or sample.id, sample.content) for part in parts.values() for sample in part]
    try:
        tokenizer = modality.tokenizer(config.tokenizer, parts["train"])
        public = [named for found in anchors for named in _public(found, modality)]
        if task is not None:
            for part in parts.values():
                task.targets(part, tokenizer)
    except FedgramError as error:
        yield from_error(error)
        return
    if isinstance(tokenizer, ScreeningTokenizer):
        wrong = [*_untaken(tokenizer.screen, [*own, *public])]
    elif isinstance(tokenizer, MovableTokenizer | MapTokenizer):
        wrong = [*_strange(public, parts["train"][0].content)]
    else:
        wrong = [*_untaken(tokenizer, [*own, *public])]
    yield from wrong[:_SHOWN]
    if len(wrong) > _SHOWN:
        yield Finding("failure", f"{len(wrong) - _SHOWN} more samples or anchors cannot be used", "as above")
    if not wrong:
        yield from _too_long(config.tokenizer, tokenizer, parts["train"][0].content)


def without_positions(
    tokenizers: Mapping[str, int], backbones: Mapping[str, str], name: str | None = None
) -> Iterator[Finding]:
    """Samples of more tokens than a backbone takes: the job's, or those that the site has folders of."""


def _public(anchors: AnchorSet, modality: Modality) -> Iterator[Named]:
    slots = [anchors.slots[number].id for number in anchors.covered(modality.name)]
    for slot, content in zip(slots, anchors.contents(modality), strict=True):
        yield f"{anchors.folder}, slot {slot}", content


def _strange(public: Sequence[Named], own: Any) -> Iterator[Finding]:
    """Anchors with other columns than the site's table."""
    for where, content in public:
        if isinstance(content, Row) and isinstance(own, Row):
            try:
                aligned(content, own.columns)
            except DataError as error:
                yield _finding(where, error)


def _untaken(tokenizer: Tokenizer, contents: Sequence[Named]) -> Iterator[Finding]:
    for start in range(0, len(contents), _BATCH):
        batch = contents[start : start + _BATCH]
        try:
            tokenizer([content for _, content in batch])
        except DataError as error:
            if len(batch) == 1:
                yield _finding(batch[0][0], error)
            else:
                for one in batch:
                    yield from _untaken(tokenizer, [one])


def _finding(where: str, error: DataError) -> Finding:
    return from_error(DataError(error.problem, where=where, expected=error.expected, remedy=error.remedy))
