"""Symmetric InfoNCE and recall, one sample at a time."""

from __future__ import annotations

import math

from reference.gram import cosine
from torch import Tensor


def one_way(queries: Tensor, answers: Tensor, temperature: float) -> float:
    """Mean over the queries of −log of the share that the right answer has."""
    losses = []
    for i, query in enumerate(queries.double().tolist()):
        scores = [math.exp(cosine(query, answer) / temperature) for answer in answers.double().tolist()]
        losses.append(-math.log(scores[i] / sum(scores)))
    return sum(losses) / len(losses)


def info_nce(z: Tensor, other: Tensor, temperature: float) -> float:
    return (one_way(z, other, temperature) + one_way(other, z, temperature)) / 2


def found(queries: Tensor, answers: Tensor) -> float:
    hits = 0
    for i, query in enumerate(queries.double().tolist()):
        similarities = [cosine(query, answer) for answer in answers.double().tolist()]
        hits += similarities.index(max(similarities)) == i
    return hits / len(queries)


def pair_recall(z: Tensor, other: Tensor) -> float:
    return (found(z, other) + found(other, z)) / 2
