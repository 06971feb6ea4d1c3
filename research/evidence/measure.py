"""The measures of a run, on samples and anchors that no training has seen.

Everything is averaged over the sites, or over the pairs of sites of different modalities: a run is one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import mean

import numpy as np
import torch
from fedgram.core.cka import cka
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import cross_similarity, mutual_knn
from fedgram.records import SiteEvaluation
from fedgram.results import crossmodal
from fedgram.results.alignment import NEIGHBOURS, answerable, heldout_gram, mean_average_precision, precision_at_1
from fedgram.results.crossmodal import Embedded
from fedgram.sites.single import SingleSite
from torch import Tensor

from research.evidence.federations import kind_of
from research.rows import Row

PERMUTATIONS = 200
RANKS = (1, 5, 10)


def measure(
    sites: Mapping[str, SingleSite],
    evaluations: Mapping[str, SiteEvaluation],
    split: str,
    bridged: tuple[str, str] | None = None,
) -> Row:
    """All measures of a run.

    Args:
        sites: with the model that they ended with.
        evaluations: of each of them, on this split.
        split: ``test``, or ``validation`` to choose settings by.
        bridged: two modalities whose retrieval is measured by itself too, as ``bridged r@1``, and that of all
            others as ``other r@1``.
    """
    embedded = {name: crossmodal.embed(site, site.samples(split)) for name, site in sites.items()}
    pairs = [(a, b) for a, b in combinations(sites, 2) if kind_of(a) != kind_of(b)]
    row = accuracies(evaluations)
    row |= _mean([alignment(evaluations[a], evaluations[b]) for a, b in pairs])
    both_ways = [pair for a, b in pairs for pair in ((a, b), (b, a))]
    found = {pair: retrieval(embedded[pair[0]], embedded[pair[1]]) for pair in both_ways}
    row |= _mean(list(found.values()))
    for name, inside in (("bridged r@1", True), ("other r@1", False)) if bridged else ():
        own = [r for pair, r in found.items() if ({*map(kind_of, pair)} == set(bridged or ())) is inside]
        row[name] = _mean(own)["r@1"]
    row |= zero_shot(sites, embedded, both_ways)
    return row


def accuracies(evaluations: Mapping[str, SiteEvaluation]) -> Row:
    """The accuracy of the sites' own tasks: its mean, and that of each modality as ``accuracy/<kind>``."""
    kinds: dict[str, list[float]] = {}
    for name, evaluation in evaluations.items():
        if "accuracy" in evaluation.metrics:  # a split may be empty
            kinds.setdefault(kind_of(name), []).append(evaluation.metrics["accuracy"])
    values = [value for found in kinds.values() for value in found]
    return {"accuracy": mean(values)} | {f"accuracy/{kind}": mean(found) for kind, found in sorted(kinds.items())}


def alignment(a: SiteEvaluation, b: SiteEvaluation) -> Row:
    """Debiased CKA and mutual k-NN over the held-out anchors of two sites, and of shuffled anchors beside them.

    ``…/null`` is the mean over permutations of one side, ``…/above`` the share of permutations that score less.
    """
    common = sorted(set(a.heldout_slots) & set(b.heldout_slots))
    x, y = heldout_gram(a, common), heldout_gram(b, common)
    if len(x) <= NEIGHBOURS:
        return {}
    generator = np.random.default_rng(0)
    orders = [torch.from_numpy(generator.permutation(len(x))) for _ in range(PERMUTATIONS)]
    row: Row = {}
    for name, score in (("cka", _cka), ("knn", _knn)):
        found, null = score(x, y), [score(x, y[order][:, order]) for order in orders]
        row |= {name: found, f"{name}/null": mean(null), f"{name}/above": mean(found > value for value in null)}
    return row


def _cka(x: Tensor, y: Tensor) -> float:
    return cka(x, y, "debiased").item()


def _knn(x: Tensor, y: Tensor) -> float:
    return mutual_knn(x, y, NEIGHBOURS)


def retrieval(query: Embedded, gallery: Embedded) -> Row:
    """The retrieval of samples of the right concept at a site of another modality.

    ``r@k`` among the first k and ``map`` in anchor coordinates, ``raw r@1`` by plain cosines, ``chance`` of r@1.
    Nothing where no query has a concept that is offered.
    """
    truth, offered = [s.concept for s in query.samples], [s.concept for s in gallery.samples]
    rows = answerable(truth, offered)
    if not rows:
        return {}
    relative = crossmodal.similarities(query, gallery)
    raw, chance = precision_at_1(cross_similarity(query.z, gallery.z), truth, offered)
    row = {f"r@{k}": recall(relative, truth, offered, rows, k) for k in RANKS}
    return row | {"map": mean_average_precision(relative, truth, offered), "raw r@1": raw, "chance": chance}


def recall(similarity: Tensor, truth: Sequence[str], offered: Sequence[str], rows: Sequence[int], k: int) -> float:
    """The share of queries for which the right concept is among the k most similar."""
    best = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    return mean(any(offered[j] == truth[i] for j in best[i].tolist()) for i in rows)


def zero_shot(
    sites: Mapping[str, SingleSite], embedded: Mapping[str, Embedded], pairs: Sequence[tuple[str, str]]
) -> Row:
    """The naming of samples by another modality's labels, where their own site saw no label of their concept."""
    named = {name: crossmodal.trained_concepts(site) for name, site in sites.items()}
    taught: dict[str, Embedded] = {}
    rows = []
    for query, teacher in pairs:
        if named[teacher] - named[query]:
            if teacher not in taught:
                samples = sites[teacher].samples("train")
                taught[teacher] = crossmodal.embed(sites[teacher], samples)
            rows += [
                {"zero-shot": found.accuracy, "zero-shot chance": found.chance}
                for found in crossmodal.transfers(embedded[query], taught[teacher])
            ]
    return _mean(rows)


def truth_alignment(evaluation: SiteEvaluation, latents: np.ndarray) -> float:
    """Debiased CKA between a site's held-out anchors and the true latents of those, where these are known.

    Args:
        latents: (h, dimensions), in slot order.
    """
    rows = torch.arange(len(evaluation.slots), len(evaluation.gram))
    own = evaluation.gram.double()[rows[:, None], rows[None, :]]
    centred = torch.from_numpy(latents - latents.mean(0))
    return _cka(own, cosine_gram(centred))


def _mean(rows: Sequence[Row]) -> Row:
    """The mean of each column over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: mean(row[name] for row in rows if name in row) for name in names}
