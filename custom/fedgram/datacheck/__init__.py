"""What was understood of a site's data, and what may be wrong with them. Nothing here is ever sent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedgram import modalities
from fedgram.datacheck import content, labels
from fedgram.errors import FedgramError
from fedgram.finding import Finding, from_error
from fedgram.modalities.base import Modality
from fedgram.model.tasks import make_task
from fedgram.sitefile import SiteConfig, read_site_config
from fedgram.training.data import read_samples, split_samples
from fedgram.types import Sample


@dataclass(frozen=True)
class Understood:
    """A site's data as fedgram sees them.

    Attributes:
        config: the site file.
        modality: of the data.
        parts: samples by split.
        findings: what may be wrong.
    """

    config: SiteConfig
    modality: Modality
    parts: Mapping[str, Sequence[Sample]]
    findings: Sequence[Finding]

    @property
    def failed(self) -> bool:
        """Whether training would not start."""
        return any(finding.level == "failure" for finding in self.findings)


def check(site_file: Path) -> Understood:
    """Read, split and look at a site's data.

    Raises:
        ConfigError: the site file is wrong.
        DataError: the data cannot be read or split: file, row and column are named.
    """
    config = read_site_config(site_file)
    modality = modalities.load(config.modality)
    parts = split_samples(site_file.stem, read_samples(config, modality), config.concepts)
    return Understood(config, modality, parts, [*_findings(config, modality, parts)])


def _findings(config: SiteConfig, modality: Modality, parts: Mapping[str, Sequence[Sample]]) -> Iterator[Finding]:
    unreadable = [*content.unreadable(parts)]
    yield from unreadable
    if not unreadable:
        try:
            make_task(config, parts["train"])
        except FedgramError as error:
            yield from_error(error)
        yield from content.duplicates(modality, parts)
    yield from labels.groups(config, parts)
    yield from labels.few(parts)
    yield from labels.untested(parts)
    yield from labels.unmeasured(parts)
    yield from labels.unbalanced(config, parts)
    yield from labels.without_anchors(config, modality, parts)
    yield from content.columns(parts)
