"""What is measured after a run, on samples and anchors that no training has seen.

Everything is averaged over the sites, or over the pairs of sites of different modalities: a run is one row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from statistics import mean

import numpy as np
import torch
from fedgram import crossmodal
from fedgram.core.cka import cka
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import cross_similarity, mutual_knn
from fedgram.crossmodal import Embedded
from fedgram.evaluation import NEIGHBOURS, answerable, mean_average_precision
from fedgram.training import local
from fedgram.training.site import Site
from fedgram.types import SiteEvaluation
from torch import Tensor

from benchmarks.evidence.federations import kind_of

PERMUTATIONS = 200
RANKS = (1, 5, 10)
Row = dict[str, float]


def measure(sites: Mapping[str, Site], split: str) -> Row:
    """All measures of a run.

    Args:
        sites: with the model that they ended with.
        split: ``test``, or ``validation`` to choose settings by.
    """
    evaluations = {name: local.evaluation(site, split) for name, site in sites.items()}
    embedded = {name: crossmodal.embed(site, crossmodal.samples_of(site, split)) for name, site in sites.items()}
    pairs = [(a, b) for a, b in combinations(sites, 2) if kind_of(a) != kind_of(b)]
    row = accuracies(evaluations)
    row |= _mean([alignment(evaluations[a], evaluations[b]) for a, b in pairs])
    both_ways = [pair for a, b in pairs for pair in ((a, b), (b, a))]
    row |= _mean([retrieval(embedded[a], embedded[b]) for a, b in both_ways])
    row |= zero_shot(sites, embedded, both_ways)
    return row


def accuracies(evaluations: Mapping[str, SiteEvaluation]) -> Row:
    """Accuracy of the sites' own tasks: their mean, and that of each modality as ``accuracy/<kind>``."""
    kinds: dict[str, list[float]] = {}
    for name, evaluation in evaluations.items():
        if "accuracy" in evaluation.metrics:  # a split may be empty
            kinds.setdefault(kind_of(name), []).append(evaluation.metrics["accuracy"])
    values = [value for found in kinds.values() for value in found]
    return {"accuracy": mean(values)} | {f"accuracy/{kind}": mean(found) for kind, found in sorted(kinds.items())}


def alignment(a: SiteEvaluation, b: SiteEvaluation) -> Row:
    """Debiased CKA and mutual k-NN over the held-out anchors of both, with those of shuffled anchors beside them.

    ``…/null`` is the mean over permutations of one side, ``…/above`` the share of permutations that score less.
    """
    x, y = heldout_grams(a, b)
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


def heldout_grams(a: SiteEvaluation, b: SiteEvaluation) -> tuple[Tensor, Tensor]:
    """The two sites' cosines over the held-out anchors that both have, float64."""
    common = sorted(set(a.heldout_slots) & set(b.heldout_slots))
    grams = []
    for evaluation in (a, b):
        rows = torch.tensor([len(evaluation.slots) + evaluation.heldout_slots.index(s) for s in common])
        grams.append(evaluation.gram.double()[rows[:, None], rows[None, :]])
    return grams[0], grams[1]


def retrieval(query: Embedded, gallery: Embedded) -> Row:
    """Whether a sample of the right concept is found at a site of another modality.

    ``r@k`` among the first k and ``map`` in anchor coordinates, ``raw r@1`` by plain cosines, ``chance`` of r@1.
    """
    truth, offered = [s.concept for s in query.samples], [s.concept for s in gallery.samples]
    rows = answerable(truth, offered)
    if not rows:
        return {}
    relative, raw = crossmodal.similarities(query, gallery), cross_similarity(query.z, gallery.z)
    row = {f"r@{k}": recall(relative, truth, offered, rows, k) for k in RANKS}
    return row | {
        "map": mean_average_precision(relative, truth, offered),
        "raw r@1": recall(raw, truth, offered, rows, 1),
        "chance": mean(offered.count(truth[i]) / len(offered) for i in rows),
    }


def recall(similarity: Tensor, truth: Sequence[str], offered: Sequence[str], rows: Sequence[int], k: int) -> float:
    """Share of the queries for which the right concept is among the k most similar."""
    best = similarity.topk(min(k, similarity.shape[1]), dim=1).indices
    return mean(any(offered[j] == truth[i] for j in best[i].tolist()) for i in rows)


def zero_shot(
    sites: Mapping[str, Site], embedded: Mapping[str, Embedded], pairs: Sequence[tuple[str, str]]
) -> Row:
    """Samples of concepts whose labels their own site never saw, named by the labels of another modality."""
    unseen = {name: crossmodal.trained_concepts(site) for name, site in sites.items()}
    rows = []
    for query, teacher in pairs:
        if unseen[teacher] - unseen[query]:
            taught = crossmodal.embed(sites[teacher], crossmodal.samples_of(sites[teacher], "train"))
            rows += [
                {"zero-shot": found.accuracy, "zero-shot chance": found.chance}
                for found in crossmodal.transfers(embedded[query], taught)
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
    """Column by column, over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: mean(row[name] for row in rows if name in row) for name in names}
