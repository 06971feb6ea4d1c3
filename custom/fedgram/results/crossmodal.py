"""Questions across modalities, from the results of two sites that never shared a sample.

Everything is compared in one frame (:mod:`fedgram.core.frame`), that of the mean of both sites' Grams over the
slots that both cover. Raw cosines are offered for comparison; alignment of Gram matrices leaves a rotation free,
so these should be at chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from fedgram.core.directory import Directory
from fedgram.core.frame import consensus_frame, frame_coordinates
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates, cross_similarity
from fedgram.errors import AnchorError, CheckpointError, DataError
from fedgram.records import Sample, Tokens
from fedgram.results.alignment import mean_average_precision, precision_at_1, right_at_1
from fedgram.results.intervals import Interval, share
from fedgram.sites.samples import concepts_of
from fedgram.sites.single import SingleSite
from fedgram.training.directory import named


@dataclass(frozen=True)
class Match:
    """One answer: a sample's id and concept, and its cosine in the common frame.

    ``content`` is that of the sample, where one was found and not a name alone.
    """

    id: str
    concept: str
    similarity: float
    content: Any = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Embedded:
    """Samples of one site as its model represents them.

    Attributes:
        site: whose.
        samples: N of them.
        z: (N, d).
        anchors: (b, d), the site's training anchors, in slot order.
    """

    site: SingleSite
    samples: Sequence[Sample]
    z: Tensor
    anchors: Tensor

    def __getitem__(self, rows: Sequence[int]) -> Embedded:
        return replace(self, samples=[self.samples[i] for i in rows], z=self.z[list(rows)])

    def coordinates(self, slots: Sequence[int]) -> Tensor:
        """Anchor coordinates over some of the slots that the site covers, (N, len(slots))."""
        return anchor_coordinates(self.z, self.anchors_at(slots))

    def anchors_at(self, slots: Sequence[int]) -> Tensor:
        """The anchors of some of the slots that the site covers, (len(slots), d)."""
        return self.anchors[[self.site.anchors.slots.index(s) for s in slots]]


@dataclass(frozen=True)
class Comparison:
    """Retrieval between the test samples of two sites, queries of one against the gallery of the other.

    ``interval`` is that of ``relative``: 95 %, over the groups of the queries.
    """

    query: str
    gallery: str
    queries: int
    relative: float
    interval: Interval
    relative_map: float
    raw: float
    chance: float


@dataclass(frozen=True)
class Transfer:
    """Zero-shot naming of test samples, of a concept without labels at their site, by a teacher's labels.

    ``interval`` is that of ``accuracy``: 95 %, over the groups of the samples.
    """

    query: str
    teacher: str
    concept: str
    samples: int
    accuracy: float
    interval: Interval
    chance: float


def embed(site: SingleSite, samples: Sequence[Sample], *, channel: int = 0) -> Embedded:
    """Run samples through a site's tokenizer and model.

    Args:
        channel: of the samples; a second one shares the space, and so the anchors, of the first.

    Raises:
        ConfigError: the site has no such channel.
    """
    tokens = site.channel(channel).tokens_of([s.content for s in samples])
    z = site.model.embed(tokens, channel=channel)
    return Embedded(site=site, samples=samples, z=z, anchors=site.model.embed(site.anchors.tokens))


def common_slots(a: SingleSite, b: SingleSite) -> list[int]:
    """Anchor slots that both sites cover.

    Raises:
        AnchorError: different anchor sets, or fewer than 2 slots in common.
    """
    if a.anchors.sha256 != b.anchors.sha256:
        raise AnchorError("trained on different anchor sets", where=f"{a.name} and {b.name}")
    common = sorted(set(a.anchors.slots) & set(b.anchors.slots))
    if len(common) < 2:
        raise AnchorError(f"{len(common)} anchor slots in common", where=f"{a.name} and {b.name}", expected="≥ 2")
    return common


def framed(a: Embedded, b: Embedded) -> tuple[Tensor, Tensor]:
    """The samples of two sites in the frame of their anchors' mean Gram, over the slots that both cover."""
    slots = common_slots(a.site, b.site)
    grams = [cosine_gram(part.anchors_at(slots)) for part in (a, b)]
    places = consensus_frame((grams[0] + grams[1]) / 2)
    first, second = (
        frame_coordinates(part.coordinates(slots), gram, places) for part, gram in zip((a, b), grams, strict=True)
    )
    return first, second


def similarities(query: Embedded, gallery: Embedded) -> Tensor:
    """Cosines in the common frame, (N, M)."""
    return cross_similarity(*framed(query, gallery))


def nearest(query: Embedded, gallery: Embedded, k: int) -> list[list[Match]]:
    """Find the k most similar gallery samples of each query, best first."""
    best = similarities(query, gallery).topk(min(k, len(gallery.samples)), dim=1)
    return [
        [
            Match(found.id, found.concept, float(value), found.content)
            for found, value in zip((gallery.samples[int(i)] for i in indices), values, strict=True)
        ]
        for indices, values in zip(best.indices, best.values, strict=True)
    ]


def trained_concepts(site: SingleSite) -> set[str]:
    """The concepts whose labels a site trained on."""
    return set(site.config.concepts or concepts_of(site.samples("train")))


def named_by(query: Embedded, taught: Embedded) -> list[Match]:
    """Name the concept of each query by the labels of another site's training samples.

    A concept is the mean of its training samples in the common frame; a query gets the concept with the largest
    cosine. ``id`` of a match is the teacher's name.

    Raises:
        DataError: the teacher's data name no concepts.
    """
    asked, coordinates = framed(query, taught)
    concepts = sorted({s.concept for s in taught.samples} & trained_concepts(taught.site))
    if not concepts:
        raise DataError(
            "the data name no concepts, so there is nothing to call a sample by",
            where=taught.site.name,
            remedy="ask a site whose data have a concept column",
        )
    prototypes = torch.stack(
        [coordinates[[i for i, s in enumerate(taught.samples) if s.concept == c]].mean(0) for c in concepts]
    )
    best = cross_similarity(asked, prototypes).max(dim=1)
    return [
        Match(taught.site.name, concepts[int(i)], float(value))
        for i, value in zip(best.indices, best.values, strict=True)
    ]


def named_in(site: SingleSite, tokens: Tokens, directory: Directory | None) -> list[Match]:
    """Name the concept of each sample by the nearest prototype of a directory; ``id`` of a match is ``directory``.

    Raises:
        CheckpointError: no directory came with the site's result.
    """
    if directory is None:
        raise CheckpointError(
            "no directory of concepts came with this result",
            where=site.name,
            remedy='let sites share theirs (`share = ["concepts"]` in their own files), or name a site\'s result',
        )
    concepts, cosines = named(site, directory, tokens)
    best = cosines.max(dim=1)
    return [Match("directory", concepts[int(i)], float(v)) for i, v in zip(best.indices, best.values, strict=True)]


def compare(query: Embedded, gallery: Embedded) -> Comparison:
    """Measure retrieval of the right concept at the other site, in the common frame and by raw cosine."""
    relative, raw = similarities(query, gallery), cross_similarity(query.z, gallery.z)
    truth, concepts = [s.concept for s in query.samples], [s.concept for s in gallery.samples]
    hits, chance = precision_at_1(relative, truth, concepts)
    right = right_at_1(relative, truth, concepts)
    return Comparison(
        query=query.site.name,
        gallery=gallery.site.name,
        queries=len(right),
        relative=hits,
        interval=share([*right.values()], [query.samples[i].group for i in right]).interval if right else None,
        relative_map=mean_average_precision(relative, truth, concepts),
        raw=precision_at_1(raw, truth, concepts)[0],
        chance=chance,
    )


def unseen(site: SingleSite, known: set[str]) -> set[str]:
    """The concepts among some that a site never trained on and has test samples of."""
    return (known - trained_concepts(site)) & {s.concept for s in site.samples("test")}


def transfers(query: Embedded, taught: Embedded) -> list[Transfer]:
    """Measure how well a teacher names, among all it knows, the concepts that the asking site never trained on."""
    known = trained_concepts(taught.site)
    new = known - trained_concepts(query.site)
    asked = query[[i for i, s in enumerate(query.samples) if s.concept in new]]
    if not asked.samples:
        return []
    answers = [*zip(asked.samples, named_by(asked, taught), strict=True)]
    found = []
    for concept in sorted({s.concept for s in asked.samples}):
        named = [(match.concept == concept, s.group) for s, match in answers if s.concept == concept]
        hits = share(*map(list, zip(*named, strict=True)))
        sites = query.site.name, taught.site.name
        found.append(Transfer(*sites, concept, len(named), hits.value, hits.interval, 1 / len(known)))
    return found
