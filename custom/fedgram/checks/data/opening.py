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
    name: str, modality: Modality, parts: Mapping[str, Sequence[Sample]], anchors: Sequence[AnchorSet] = ()
) -> Iterator[Finding]:
    """Contents that the site's tokenizer, of that name, cannot take.

    A tokenizer without an encoder is tried on all samples and anchors. One with an encoder is only built: the
    tokens of all samples take minutes, and the doctor makes one.
    """
    try:
        tokenizer = modality.tokenizer(name, parts["train"])
        public = [named for found in anchors for named in _public(found, modality)]
    except FedgramError as error:
        yield from_error(error)
        return
    own = [(sample.source or sample.id, sample.content) for part in parts.values() for sample in part]
    if isinstance(tokenizer, MovableTokenizer | MapTokenizer):
        wrong = [*_strange(public, parts["train"][0].content)]
    else:
        wrong = [*_untaken(tokenizer, [*own, *public])]
    yield from wrong[:_SHOWN]
    if len(wrong) > _SHOWN:
        yield Finding("failure", f"{len(wrong) - _SHOWN} more samples or anchors cannot be used", "as above")


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
