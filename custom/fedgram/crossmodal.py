"""Questions across modalities, from the results of two sites that never shared a sample.

Everything is compared in anchor coordinates over the slots that both sites cover: the cosine of a sample to
anchor slot j means the same thing at every site, whatever the modality. Raw cosines are offered for
comparison; alignment of Gram matrices leaves a rotation free, so they should be at chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram.core.relative import anchor_coordinates, cross_similarity
from fedgram.demo import locate
from fedgram.errors import AnchorError
from fedgram.evaluation import mean_average_precision, precision_at_1
from fedgram.training import result
from fedgram.training.local import represent
from fedgram.training.site import Site, split_samples
from fedgram.types import Sample


@dataclass(frozen=True)
class Match:
    """One answer: a sample's id and concept, and its cosine in anchor coordinates."""

    id: str
    concept: str
    similarity: float


@dataclass(frozen=True)
class Comparison:
    """Retrieval between the test samples of two sites, queries of one against the gallery of the other."""

    query: str
    gallery: str
    queries: int
    relative: float
    relative_map: float
    raw: float
    chance: float


@dataclass(frozen=True)
class Transfer:
    """Zero-shot: test samples of a concept that the query site has no labels of, named by a teacher's labels."""

    query: str
    teacher: str
    concept: str
    samples: int
    accuracy: float
    chance: float


def load(folder: Path) -> Site:
    """A site as it was at the end of its run, from its result folder."""
    return result.load(folder)


def samples_of(site: Site, split: str) -> list[Sample]:
    """A site's samples of one split, those of concepts that it did not train on included."""
    data = locate(site.config.data, Path(site.config.cache).expanduser())
    return split_samples(site.name, site.modality.read(data), ())[split]


def coordinates(site: Site, contents: Sequence[Any], slots: Sequence[int]) -> Tensor:
    """Anchor coordinates of raw contents over the given slots, (N, len(slots))."""
    anchors = represent(site, site.anchors.tokens)[[site.anchors.slots.index(s) for s in slots]]
    return anchor_coordinates(represent(site, site.tokens_of(contents)), anchors)


def common_slots(a: Site, b: Site) -> list[int]:
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


def retrieve(query: Site, contents: Sequence[Any], gallery: Site, k: int = 5) -> list[list[Match]]:
    """For each raw content of one modality, the k nearest test samples of another site."""
    slots = common_slots(query, gallery)
    offered = samples_of(gallery, "test")
    similarity = cross_similarity(
        coordinates(query, contents, slots), coordinates(gallery, [s.content for s in offered], slots)
    )
    best = similarity.topk(min(k, len(offered)), dim=1)
    return [
        [
            Match(offered[int(i)].id, offered[int(i)].concept, float(v))
            for i, v in zip(indices, values, strict=True)
        ]
        for indices, values in zip(best.indices, best.values, strict=True)
    ]


def classify(query: Site, contents: Sequence[Any], teacher: Site) -> list[Match]:
    """Name the concept of each content by the labels of another site, of another modality.

    The teacher's concept is the mean of its training samples in anchor coordinates; a content gets the concept
    with the largest cosine. ``id`` of a match is the teacher's name.
    """
    slots = common_slots(query, teacher)
    samples = samples_of(teacher, "train")
    taught = coordinates(teacher, [s.content for s in samples], slots)
    concepts = sorted({s.concept for s in samples if s.concept in trained_concepts(teacher)})
    prototypes = torch.stack(
        [taught[[i for i, s in enumerate(samples) if s.concept == concept]].mean(0) for concept in concepts]
    )
    best = cross_similarity(coordinates(query, contents, slots), prototypes).max(dim=1)
    return [
        Match(teacher.name, concepts[int(i)], float(v)) for i, v in zip(best.indices, best.values, strict=True)
    ]


def trained_concepts(site: Site) -> set[str]:
    """The concepts whose labels a site trained on."""
    return set(site.config.concepts) or {s.concept for s in samples_of(site, "train")}


def transfers(query: Site, teacher: Site) -> list[Transfer]:
    """How often the teacher names the concepts that the asking site never trained on, among all that it knows."""
    known = trained_concepts(teacher)
    asked = [s for s in samples_of(query, "test") if s.concept in known - trained_concepts(query)]
    if not asked:
        return []
    named = [match.concept for match in classify(query, [s.content for s in asked], teacher)]
    pairs = list(zip(asked, named, strict=True))
    return [
        Transfer(query.name, teacher.name, concept, len(hits), sum(hits) / len(hits), 1 / len(known))
        for concept in sorted({s.concept for s in asked})
        if (hits := [name == concept for s, name in pairs if s.concept == concept])
    ]


def compare(query: Site, gallery: Site) -> Comparison:
    """Retrieval of the right concept among the other site's test samples, anchor-relative and raw."""
    slots = common_slots(query, gallery)
    asked, offered = samples_of(query, "test"), samples_of(gallery, "test")
    contents = {s.name: [x.content for x in part] for s, part in ((query, asked), (gallery, offered))}
    relative = cross_similarity(
        coordinates(query, contents[query.name], slots), coordinates(gallery, contents[gallery.name], slots)
    )
    raw = cross_similarity(*(represent(s, s.tokens_of(contents[s.name])) for s in (query, gallery)))
    truth, concepts = [s.concept for s in asked], [s.concept for s in offered]
    hits, chance = precision_at_1(relative, truth, concepts)
    return Comparison(
        query=query.name,
        gallery=gallery.name,
        queries=sum(concept in concepts for concept in truth),
        relative=hits,
        relative_map=mean_average_precision(relative, truth, concepts),
        raw=precision_at_1(raw, truth, concepts)[0],
        chance=chance,
    )
