"""Alignment and retrieval between sites, measured on nothing but Gram matrices over public anchors.

Raw CKA on the training anchors is the loss itself, so everything here is measured on held-out anchors. A
held-out anchor's cosines to the training anchors are its anchor coordinates, so that even retrieval across
modalities can be measured at the server without any sample or representation of a site.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import isnan, nan

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.cka import cka
from fedgram.core.relative import cross_similarity, mutual_knn
from fedgram.records import SiteEvaluation

NEIGHBOURS = 5


@dataclass(frozen=True)
class PairAlignment:
    """The agreement of two sites' geometries on the held-out anchors that both cover.

    Attributes:
        sites: the two.
        anchors: n, held-out anchors that both cover.
        cka: debiased CKA; 0 is unrelated, 1 the same geometry.
        knn: mutual k-nearest-neighbour overlap.
        knn_chance: its expectation for unrelated geometries, k / (n − 1).
        retrieval: P@1 of the concept, in anchor coordinates, mean of both directions; None where the two share no
            training anchor, or no concept of held-out ones.
        retrieval_chance: P@1 of a random guess.
    """

    sites: tuple[str, str]
    anchors: int
    cka: float
    knn: float
    knn_chance: float
    retrieval: float | None
    retrieval_chance: float | None


def alignments(evaluations: Mapping[str, SiteEvaluation], job: JobConfig) -> list[PairAlignment]:
    """Measure every pair of sites that shares at least 4 held-out anchors, in alphabetical order."""
    found = []
    for a, b in combinations(sorted(evaluations), 2):
        common = sorted(set(evaluations[a].heldout_slots) & set(evaluations[b].heldout_slots))
        if job.heldout is not None and len(common) >= 4:
            found.append(_align(evaluations[a], evaluations[b], common, job.heldout.concepts))
    return found


def _align(a: SiteEvaluation, b: SiteEvaluation, common: list[int], concepts: Sequence[str]) -> PairAlignment:
    x, y = heldout_gram(a, common), heldout_gram(b, common)
    k = min(NEIGHBOURS, len(common) - 1)
    forward, chance_f = heldout_retrieval(a, b, concepts)
    backward, chance_b = heldout_retrieval(b, a, concepts)
    return PairAlignment(
        sites=(a.site, b.site),
        anchors=len(common),
        cka=cka(x, y, "debiased").item(),
        knn=mutual_knn(x, y, k),
        knn_chance=k / (len(common) - 1),
        retrieval=_known(forward, backward),
        retrieval_chance=_known(chance_f, chance_b),
    )


def _known(*directions: float) -> float | None:
    """The mean over directions, where there is one."""
    mean = sum(directions) / len(directions)
    return None if isnan(mean) else mean


def heldout_gram(evaluation: SiteEvaluation, slots: Sequence[int]) -> Tensor:
    """Cosines of a site over some of its held-out anchors, (n, n), float64."""
    rows = torch.tensor([len(evaluation.slots) + evaluation.heldout_slots.index(s) for s in slots])
    return evaluation.gram.double()[rows[:, None], rows[None, :]]


def heldout_coordinates(evaluation: SiteEvaluation, slots: Sequence[int]) -> Tensor:
    """Anchor coordinates of a site's held-out anchors over some training slots, (h, len(slots))."""
    columns = torch.tensor([evaluation.slots.index(s) for s in slots])
    cosines = evaluation.gram.double()[len(evaluation.slots) :, columns]
    return cosines - cosines.mean(dim=1, keepdim=True)


def heldout_retrieval(
    query: SiteEvaluation, gallery: SiteEvaluation, concepts: Sequence[str]
) -> tuple[float, float]:
    """Retrieval P@1 of a held-out anchor of the same concept at another site, and chance.

    Only queries whose concept the gallery has are counted: no answer could be right for the others. NaN where
    there are none, or no training anchor is common to both.
    """
    common = sorted(set(query.slots) & set(gallery.slots))
    if not common:
        return nan, nan
    similarity = cross_similarity(heldout_coordinates(query, common), heldout_coordinates(gallery, common))
    truth = [concepts[s] for s in query.heldout_slots]
    offered = [concepts[s] for s in gallery.heldout_slots]
    return precision_at_1(similarity, truth, offered)


def precision_at_1(similarity: Tensor, truth: Sequence[str], offered: Sequence[str]) -> tuple[float, float]:
    """The share of queries whose most similar gallery item has the query's concept, and the share by guessing.

    Args:
        similarity: (N, M), queries by gallery.
        truth: concept of each query.
        offered: concept of each gallery item.

    Returns:
        (P@1, chance), over the queries that have a concept and whose concept is offered; NaN when there are none.
    """
    right = right_at_1(similarity, truth, offered)
    if not right:
        return nan, nan
    chance = sum(offered.count(truth[i]) / len(offered) for i in right) / len(right)
    return sum(right.values()) / len(right), chance


def right_at_1(similarity: Tensor, truth: Sequence[str], offered: Sequence[str]) -> dict[int, bool]:
    """Say of each query that :func:`answerable` counts whether its most similar item has its concept."""
    best = similarity.argmax(dim=1) if offered else []
    return {i: offered[int(best[i])] == truth[i] for i in answerable(truth, offered)}


def answerable(truth: Sequence[str], offered: Sequence[str]) -> list[int]:
    """The queries that have a concept, and one that is offered."""
    known = set(offered) - {""}
    return [i for i, concept in enumerate(truth) if concept in known]


def mean_average_precision(similarity: Tensor, truth: Sequence[str], offered: Sequence[str]) -> float:
    """The mAP over queries whose concept is offered: how early all items of the right concept are found."""
    scores, places = [], torch.arange(1, len(offered) + 1)
    right = {concept: torch.tensor([o == concept for o in offered], dtype=torch.float64) for concept in {*truth}}
    for query in answerable(truth, offered):
        relevant = right[truth[query]][similarity[query].argsort(descending=True).cpu()]
        found = relevant.cumsum(0) / places
        scores.append((found * relevant).sum().item() / relevant.sum().item())
    return sum(scores) / len(scores) if scores else nan
