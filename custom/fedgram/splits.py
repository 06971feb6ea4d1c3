"""Training, validation and test samples: by group, stratified by concept, the same in every process."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256

from fedgram.errors import DataError
from fedgram.types import Sample

PARTS = ("train", "validation", "test")


def split(
    samples: Sequence[Sample], validation: float = 0.1, test: float = 0.2, seed: int = 0
) -> dict[str, list[Sample]]:
    """Split by group: no group is on two sides.

    The groups of each concept are ranked by a hash of their names; so the split does not depend on the order
    of the samples, and new groups move few of the old ones. A concept with one group trains on it, with two
    it is also tested, with five or more it is also validated: a scarce group is worth most in training.

    Args:
        validation, test: shares of a concept's groups.

    Returns:
        Samples of ``train``, ``validation`` and ``test``, each in the order of ``samples``.

    Raises:
        DataError: a concept has no training sample (its groups count under other concepts).
    """
    part_of: dict[str, str] = {}
    for groups in _groups_by_concept(samples).values():
        ranked = sorted(groups, key=lambda group: sha256(f"{seed}|{group}".encode()).digest())
        part_of |= dict(zip(ranked, _parts(len(ranked), validation, test), strict=True))
    parts = {part: [s for s in samples if part_of[s.group] == part] for part in PARTS}
    untrained = sorted({s.concept for s in samples} - {s.concept for s in parts["train"]})
    if untrained:
        raise DataError(
            f"no training sample of {untrained[0]!r}",
            where="split",
            remedy="its groups hold mostly other concepts: add groups of its own, or leave the concept out",
        )
    return parts


def _groups_by_concept(samples: Iterable[Sample]) -> dict[str, list[str]]:
    """Every group once, under its most frequent concept (the first by name when there are several)."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample in samples:
        counts[sample.group][sample.concept] += 1
    groups: dict[str, list[str]] = defaultdict(list)
    for group, concepts in counts.items():
        groups[min(concepts, key=lambda concept: (-concepts[concept], concept))].append(group)
    return groups


def _parts(count: int, validation: float, test: float) -> list[str]:
    """The part of each of ``count`` ranked groups."""
    tested = max(1, round(count * test)) if test > 0 and count >= 2 else 0
    validated = max(1, round(count * validation)) if validation > 0 and count >= 5 else 0
    return ["test"] * tested + ["validation"] * validated + ["train"] * (count - tested - validated)
