"""Findings about anchors and tokens: what training would refuse when it opens the site."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fedgram.anchors import AnchorSet
from fedgram.checks.finding import Finding, from_error
from fedgram.config.job import BackboneConfig, JobConfig
from fedgram.config.jobfolder import read_server, settings_in
from fedgram.config.site import BridgeConfig, SiteConfig
from fedgram.config.strict import from_dict
from fedgram.data.rows import Row, aligned
from fedgram.errors import BackboneError, DataError, FedgramError
from fedgram.modalities.base import (
    MapTokenizer,
    Modality,
    MovableTokenizer,
    RemarkingTokenizer,
    ScreeningTokenizer,
    Tokenizer,
)
from fedgram.model.backbone import hollow_backbone, positions, require_positions
from fedgram.model.tasks import Task
from fedgram.records import Sample
from fedgram.sites.opening import open_site

_SHOWN, _BATCH = 3, 64
_DRAWN = "a secret that stands for the one which the first job draws and keeps"

Named = tuple[str, Any]  # a content and where it is from


def refused(
    config: SiteConfig | BridgeConfig,
    modality: Modality,
    parts: Mapping[str, Sequence[Sample]],
    folders: Mapping[str, str],
    anchors: Sequence[AnchorSet] = (),
    task: Task | None = None,
) -> Iterator[Finding]:
    """Contents and targets that the site's tokenizer and task cannot take, and too many tokens.

    A tokenizer without an encoder is tried on all samples and anchors. One with an encoder takes one, and says of
    the others whether it can (:class:`~fedgram.modalities.base.ScreeningTokenizer`): their tokens take minutes.

    Args:
        config: of the site or its bridge.
        folders: of the site's backbones.
        task: of the samples; none of those of a bridge.
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
    if isinstance(tokenizer, RemarkingTokenizer):
        said = tokenizer.remarks([content for _, content in own])
        yield from (Finding("warning", remark, "see docs/encoders.md") for remark in said)
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
        yield from _shape(config.tokenizer, tokenizer, parts["train"][0].content, folders, task)


def _shape(
    name: str, tokenizer: Tokenizer, content: Any, folders: Mapping[str, str], task: Task | None
) -> Iterator[Finding]:
    """More tokens than any backbone of the site takes, or other than its head wants.

    Without a job nobody knows the backbone: it is one of the site's folders, or else the default.
    """
    length, default, refusals = tokenizer([content]).mask.shape[1], BackboneConfig(), []
    try:
        if task is not None:
            task.head(1, length, torch.Generator())
    except FedgramError as error:
        yield from_error(error)
    backbones = [replace(default, name=backbone) for backbone in folders] or [default]
    for backbone in backbones:
        try:
            require_positions(_limit(backbone, folders.get(backbone.name)), backbone, length, name)
        except BackboneError as error:
            refusals.append(from_error(error))
    level = "failure" if len(refusals) == len(backbones) else "warning"
    yield from (replace(refusal, level=level) for refusal in refusals)


@cache
def _limit(backbone: BackboneConfig, folder: str | None) -> int | None:
    """The positions of a backbone; None where it is not here: a job's own is looked at with the job."""
    try:
        return positions(hollow_backbone(backbone, {} if folder is None else {backbone.name: folder}))
    except BackboneError:
        return None


def opened(name: str, config: SiteConfig, job: Path) -> Finding:
    """The whole opening, as training does it, under the settings of a job folder.

    Raises:
        ConfigError: not a job folder of fedgram.
    """
    settings = from_dict(JobConfig, settings_in(read_server(job)), str(job))
    try:
        site = open_site(name, config if config.secret is not None else replace(config, secret=_DRAWN), settings)
    except FedgramError as error:
        return from_error(error)
    return Finding("ok", f"opened for {job.name}, as training does: {len(site.data['train'])} samples train")


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


def _untaken(take: Callable[[Sequence[Any]], object], contents: Sequence[Named]) -> Iterator[Finding]:
    for start in range(0, len(contents), _BATCH):
        batch = contents[start : start + _BATCH]
        try:
            take([content for _, content in batch])
        except DataError as error:
            if len(batch) == 1:
                yield _finding(batch[0][0], error)
            else:
                for one in batch:
                    yield from _untaken(take, [one])


def _finding(where: str, error: DataError) -> Finding:
    return from_error(DataError(error.problem, where=where, expected=error.expected, remedy=error.remedy))
