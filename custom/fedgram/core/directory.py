"""A directory of concepts: where each lies among the public anchors, as sites that have samples of it say.

A prototype is a mean of anchor coordinates (:mod:`fedgram.core.relative`), so it means the same at every site. It
is NaN at the slots that nobody who spoke of the concept covers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from fedgram.core.relative import cross_similarity
from fedgram.errors import FedgramError

LEAST_SAMPLES = 10  # of a concept: the mean of fewer says too much about each
MOST_CONCEPTS, LONGEST_NAME, LARGEST = 1000, 200, 2.0  # of what a site may publish; |cos − mean cos| ≤ 2

Directory = Mapping[str, Tensor]  # (B,) by concept
Published = tuple[Mapping[str, Tensor], Sequence[int]]  # a site's prototypes, (b,) each, and its slots


def is_name(text: str) -> bool:
    """Whether a concept may be published under this name: printable, neither empty nor too long."""
    return 1 <= len(text) <= LONGEST_NAME and text.isprintable()


def prototypes(coordinates: Tensor, concepts: Sequence[str], least: int = LEAST_SAMPLES) -> dict[str, Tensor]:
    """The mean coordinates of each concept that has enough samples and a name, in the order of names.

    Args:
        coordinates: (N, b).
        concepts: N of them.
        least: the fewest samples of a concept.

    Returns:
        (b,) by concept, float32, the first 1,000 of them.
    """
    named = {concept for concept, count in Counter(concepts).items() if count >= least and is_name(concept)}
    rows: dict[str, list[int]] = defaultdict(list)
    for row, concept in enumerate(concepts):
        rows[concept].append(row)
    return {concept: coordinates[rows[concept]].mean(0) for concept in sorted(named)[:MOST_CONCEPTS]}


def merge(published: Mapping[str, Published], slots: int) -> dict[str, Tensor]:
    """Merge what sites have published: the mean over sites of each concept at each slot.

    A slot that a site does not cover is left out of the mean. A site has subtracted the mean over the slots that
    it covers, so those of sites with unequal slots differ by a constant besides.

    Args:
        published: by site.
        slots: B.

    Returns:
        (B,) by concept, float32, the same for any order of the sites.
    """
    sums: dict[str, Tensor] = {}
    counts: dict[str, Tensor] = {}
    for _, (found, covered) in sorted(published.items()):
        for concept, values in found.items():
            total = sums.setdefault(concept, torch.zeros(slots, dtype=torch.float64))
            count = counts.setdefault(concept, torch.zeros(slots, dtype=torch.float64))
            total[list(covered)] += values.double()
            count[list(covered)] += 1
    return {concept: (sums[concept] / counts[concept]).float() for concept in sorted(sums)}


def at_slots(directory: Directory, slots: Sequence[int]) -> dict[str, Tensor]:
    """The part of a directory that can be compared at some slots, (b,) by concept; two values are the least."""
    found = {concept: values[list(slots)] for concept, values in directory.items()}
    return {concept: values for concept, values in found.items() if values.isfinite().sum() >= 2}


def likeness(coordinates: Tensor, prototypes: Sequence[Tensor]) -> Tensor:
    """Cosines of samples with prototypes, each over the slots that the prototype has, (N, C).

    Both are taken relative to their mean over these slots, as if there were no others.

    Args:
        coordinates: (N, b).
        prototypes: C of them, (b,) each, NaN at slots that they do not have.

    Raises:
        FedgramError: a prototype with fewer than 2 values.
    """
    columns = []
    for values in prototypes:
        known = values.isfinite()
        if known.sum() < 2:
            raise FedgramError(f"a prototype with {int(known.sum())} values", expected="at least 2")
        pair = [part - part.mean(dim=1, keepdim=True) for part in (coordinates[:, known], values[None, known])]
        columns.append(cross_similarity(*pair))
    return torch.cat(columns, dim=1)
