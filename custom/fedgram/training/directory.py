"""The directory of concepts in a run: what a site publishes, what the server makes of it, how it names samples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.directory import Directory, Published, merge, prototypes
from fedgram.core.frame import frame_coordinates
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates, cross_similarity
from fedgram.model.site_model import masked_mean
from fedgram.model.tasks.labels import Classification
from fedgram.records import SiteEvaluation, Tokens
from fedgram.sites.base import Site

if TYPE_CHECKING:  # the server, which merges, has no model of a site
    from fedgram.sites.single import SingleSite

_TEMPERATURE = 0.1  # cosines of ±1 become logits of ±10, as in the concept loss
_CPU = torch.device("cpu")


def token_means(site: Site, tokens: Tokens) -> Tensor:
    """The means of samples' frozen tokens, less that of all anchors', (N, d_m), float32, on the CPU."""
    means = [masked_mean(t.values, t.mask) for t in (tokens.to(_CPU), site.anchors.tokens.to(_CPU))]
    return means[0] - means[1].mean(0)


def token_geometry(site: Site, tokens: Tokens) -> tuple[Tensor, Tensor]:
    """The anchor coordinates of samples and the Gram of the site's anchors, of token means: (N, b), (b, b)."""
    anchors = token_means(site, site.anchors.tokens)
    return anchor_coordinates(token_means(site, tokens), anchors), cosine_gram(anchors)


def published(site: Site) -> tuple[dict[str, Tensor], Tensor]:
    """The prototypes of the concepts in a site's own training samples, (b,) each, and the Gram beside them.

    Nothing, and a Gram of no anchors, unless the site's own file shares them and there are some.
    """
    if "concepts" in site.config.share:
        data = site.data["train"]
        coordinates, gram = token_geometry(site, data.tokens)
        if found := prototypes(coordinates, data.concepts):
            return found, gram
    return {}, torch.zeros(0, 0)


def merged(
    evaluations: Mapping[str, SiteEvaluation], modalities: Mapping[str, str], job: JobConfig
) -> Directory | None:
    """The directory that the server makes of what sites publish with their evaluation.

    Args:
        modalities: by site, as agreed in round 0.
    """
    return merge(
        {
            site: Published(modality=modalities[site], prototypes=e.prototypes, gram=e.token_gram, slots=e.slots)
            for site, e in evaluations.items()
            if site in modalities
        },
        job.anchors.slots,
    )


def answerable(site: SingleSite, directory: Directory | None) -> bool:
    """Whether a directory has every class of a site's task."""
    if directory is None or not isinstance(site.task, Classification):
        return False
    return set(site.task.classes) <= directory.prototypes_for(site.modality.name).keys()


def logits(site: SingleSite, directory: Directory, tokens: Tokens) -> Tensor:
    """The directory's answer to samples: cosines with the prototypes of the site's classes over 0.1, (N, C)."""
    concepts, cosines = named(site, directory, tokens)
    classes = site.task.classes if isinstance(site.task, Classification) else ()
    return cosines[:, [concepts.index(name) for name in classes]] / _TEMPERATURE


def named(site: SingleSite, directory: Directory, tokens: Tokens) -> tuple[list[str], Tensor]:
    """The concepts by which a directory names a site's samples, and the samples' cosines with each, (N, C)."""
    known = directory.prototypes_for(site.modality.name)
    placed = frame_coordinates(*token_geometry(site, tokens), directory.places[list(site.anchors.slots)])
    return [*known], cross_similarity(placed, torch.stack([*known.values()]))
