"""The check of a site's data: how they are read, and faults they may have. Nothing here is ever sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedgram import modalities
from fedgram.checks.data import content, exports, labels, opening
from fedgram.checks.finding import Finding, any_failed, from_error
from fedgram.config.site import SiteConfig, read_site_config
from fedgram.demo.names import resolve
from fedgram.errors import FedgramError
from fedgram.modalities.base import Modality
from fedgram.model.tasks import make_task
from fedgram.records import Sample
from fedgram.sites.anchored import find_anchors
from fedgram.sites.device import choose_device
from fedgram.sites.pairs import Pair, read_pairs
from fedgram.sites.samples import read_samples, split_samples


@dataclass(frozen=True)
class Understood:
    """The data of a site as fedgram sees them.

    Attributes:
        config: the site file.
        modality: of the data.
        parts: samples by split.
        pairs: of a bridge site, by split.
        findings: what may be wrong.
    """

    config: SiteConfig
    modality: Modality
    parts: Mapping[str, Sequence[Sample]]
    pairs: Mapping[str, Sequence[Pair]]
    findings: Sequence[Finding]

    @property
    def failed(self) -> bool:
        """Whether training would not start."""
        return any_failed(self.findings)


def check(site_file: Path, job: Path | None = None) -> Understood:
    """Read, split and look at a site's data; with a job's folder, open the site as training does.

    Raises:
        ConfigError: the site file is wrong.
        DataError: the data cannot be read or split: file, row and column are named.
    """
    config = read_site_config(site_file)
    modality = modalities.load(config.modality)
    here = resolve(config)
    private = config.privacy is not None
    parts = split_samples(site_file.stem, read_samples(here, modality), config.concepts, apart=private)
    pairs = read_pairs(site_file.stem, here, parts)
    findings = [*_findings(site_file.stem, here, modality, parts), *_about_pairs(here, pairs)]
    if job is not None and not any_failed(findings):
        findings.append(opening.opened(site_file.stem, config, job))
    return Understood(config, modality, parts, pairs, findings)


def _about_pairs(config: SiteConfig, pairs: Mapping[str, Sequence[Pair]]) -> Iterator[Finding]:
    """Findings about the second modality of a bridge site."""
    if config.bridge is None:
        return
    seconds = {part: [pair.sample for pair in found] for part, found in pairs.items()}
    modality = modalities.load(config.bridge.modality)
    unreadable = [*content.unreadable(seconds)]
    yield from unreadable
    if not unreadable:
        yield from content.duplicates(modality, seconds)
        yield from opening.refused(config.bridge, modality, seconds, config.backbones)
    yield from exports.suspicions(config.bridge.reading, seconds)
    if len(pairs["test"]) < labels.FEW:
        text = f"{len(pairs['test'])} test pairs: pair_recall says little"
        yield Finding("warning", text, "add pairs or groups; ids must be spelled alike in both modalities")


def _findings(
    name: str, config: SiteConfig, modality: Modality, parts: Mapping[str, Sequence[Sample]]
) -> Iterator[Finding]:
    failures = [*content.unreadable(parts), *content.empty_columns(config.tokenizer, parts)]
    yield from failures
    anchors, task = [], None
    try:
        choose_device(config.device)
        folders = [folder for folder in (config.anchors, config.heldout) if folder is not None]
        anchors = [find_anchors(name, folder, None, modality.name) for folder in folders]
        task = None if failures else make_task(config, parts["train"], anchors[0].concepts(modality.name))
    except FedgramError as error:
        yield from_error(error)
    if not failures:
        yield from content.duplicates(modality, parts)
        yield from opening.refused(config, modality, parts, config.backbones, anchors, task)
    yield from labels.groups(config, parts)
    yield from labels.few(parts)
    yield from labels.untested(parts)
    yield from labels.unmeasured(parts)
    yield from labels.unbalanced(config, parts)
    if anchors:
        yield from labels.without_anchors(modality, anchors[0], parts)
    yield from content.columns(config, parts)
    yield from content.ids(config, parts)
    yield from exports.suspicions(config.reading, parts)
