"""The directory of concepts in a run: what a site publishes, what the server makes of it, how it names samples."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.directory import Directory, at_slots, is_name, likeness, merge, prototypes
from fedgram.core.relative import anchor_coordinates
from fedgram.errors import ConfigError
from fedgram.model.tasks.labels import Classification
from fedgram.records import SiteEvaluation, Tokens
from fedgram.sites.base import Site
from fedgram.sites.single import SingleSite

_TEMPERATURE = 0.1  # cosines of ±1 become logits of ±10, as in the concept loss


def published(site: Site) -> dict[str, Tensor]:
    """The prototypes of the concepts in a site's own training samples, (b,) each, if its file shares them."""
    if "concepts" not in site.config.share:
        return {}
    data = site.data["train"]
    anchors, z = site.model.embed(site.anchors.tokens), site.model.embed(data.tokens)
    return prototypes(anchor_coordinates(z, anchors), data.concepts)


def merged(evaluations: Mapping[str, SiteEvaluation], job: JobConfig) -> dict[str, Tensor]:
    """The directory that the server makes of what sites publish with their evaluation, (B,) by concept."""
    return merge({site: (e.prototypes, e.slots) for site, e in evaluations.items()}, job.anchors.slots)


def answerable(site: SingleSite, directory: Directory) -> bool:
    """Whether a directory has every class of a site's task, at anchors that the site has too."""
    known = at_slots(directory, site.anchors.slots).keys()
    return isinstance(site.task, Classification) and set(site.task.classes) <= known


def logits(site: SingleSite, directory: Directory, tokens: Tokens) -> Tensor:
    """The directory's answer to samples: cosines with the prototypes of the site's classes over 0.1, (N, C)."""
    known = at_slots(directory, site.anchors.slots)
    coordinates = anchor_coordinates(site.model.embed(tokens), site.model.embed(site.anchors.tokens))
    classes = site.task.classes if isinstance(site.task, Classification) else ()
    return likeness(coordinates, [known[name] for name in classes]) / _TEMPERATURE


def check_directory(directory: Directory, slots: int) -> None:
    """Raise ConfigError unless a server's directory has printable names, and (B,) float32 for each."""
    for name, values in directory.items():
        if not is_name(name) or values.shape != (slots,) or values.dtype != torch.float32:
            raise ConfigError(
                f"a prototype of {values.dtype} {tuple(values.shape)} under {name[:64]!r}",
                where="task: directory",
                expected=f"torch.float32 ({slots},) under a printable name",
                remedy="run the same version of fedgram as the server",
            )
