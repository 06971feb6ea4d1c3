"""Training, validation and test samples: by group, stratified by label, the same in every process."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from hashlib import sha256

import numpy as np

from fedgram.errors import DataError
from fedgram.records import Sample

PARTS = ("train", "validation", "test")
_BINS = 4  # of numbers: a stratum each


def split(
    samples: Sequence[Sample], validation: float = 0.1, test: float = 0.2, seed: int = 0
) -> dict[str, list[Sample]]:
    """Split samples by group, so that no group is on two sides; a split that the data name is taken.

    The groups of each stratum are ranked by a hash of their names; so the split does not depend on the order
    of the samples, and new groups move few of the old ones. A stratum with one group trains on it, with two
    it is also tested, with five or more it is also validated: a scarce group is worth most in training.

    Args:
        validation, test: shares of a stratum's groups.

    Returns:
        Samples of ``train``, ``validation`` and ``test``, each in the order of ``samples``.

    Raises:
        DataError: a class has no training sample (its groups count under other classes), nothing trains, or the
            data's own split has a group on two sides.
    """
    if any(s.split for s in samples):
        part_of = _own_split(samples)
    else:
        part_of = {}
        for groups in _groups_by_stratum(samples).values():
            ranked = sorted(groups, key=lambda group: sha256(f"{seed}|{group}".encode()).digest())
            part_of |= dict(zip(ranked, _parts(len(ranked), validation, test), strict=True))
    parts = {part: [s for s in samples if part_of[s.group] == part] for part in PARTS}
    untrained = sorted({c for s in samples for c in s.labels} - {c for s in parts["train"] for c in s.labels})
    if untrained or not parts["train"]:
        raise DataError(
            f"no training sample of {untrained[0]!r}" if untrained else "no training sample",
            where="split",
            remedy="its groups hold mostly other classes: add groups of its own, or leave the class out",
        )
    return parts


def split_each(samples: Sequence[Sample], validation: float = 0.1, test: float = 0.2) -> dict[str, list[Sample]]:
    """Split samples by group as :func:`split` does, but each group by its own name alone.

    So a group that comes or goes moves no other, as differential privacy wants it; a class may then be in no part.
    A split that the data name is taken.

    Raises:
        DataError: nothing trains, or the data's own split has a group on two sides.
    """
    part_of = _own_split(samples) if any(s.split for s in samples) else {}
    for group in {s.group for s in samples} - part_of.keys():
        place = int.from_bytes(sha256(f"0|{group}".encode()).digest()[:8], "big") / 2**64
        part_of[group] = "test" if place < test else "validation" if place < test + validation else "train"
    parts = {part: [s for s in samples if part_of[s.group] == part] for part in PARTS}
    if not parts["train"]:
        raise DataError("no training sample", where="split", remedy="add groups")
    return parts


def strata(samples: Sequence[Sample]) -> list[str]:
    """The stratum of each sample, whose shares a split keeps: its class, rarest label or number's quarter.

    Samples with a mask count as their concept.
    """
    numbers = [s.target for s in samples if isinstance(s.target, float)]
    edges = np.quantile(numbers, np.linspace(0, 1, _BINS + 1)[1:-1]) if numbers else []
    labels = Counter(label for s in samples if isinstance(s.target, tuple) for label in s.target)

    def stratum(sample: Sample) -> str:
        if isinstance(sample.target, tuple):
            return min(sample.target, key=lambda label: (labels[label], label), default="")
        if isinstance(sample.target, float):
            return str(np.searchsorted(edges, sample.target))
        return sample.target if isinstance(sample.target, str) else sample.concept

    return [stratum(s) for s in samples]


def _own_split(samples: Iterable[Sample]) -> dict[str, str]:
    first: dict[str, Sample] = {}
    for sample in samples:
        other = first.setdefault(sample.group, sample)
        if other.split != sample.split:
            raise DataError(
                f"one group is in {other.split} and in {sample.split}",
                where=f"{other.source} and {sample.source}",
                remedy='keep all samples of a group (patient) in one split, or say `split = ""` under [columns]',
            )
    return {group: sample.split for group, sample in first.items()}


def _groups_by_stratum(samples: Sequence[Sample]) -> dict[str, list[str]]:
    """Groups by their most frequent stratum, the first by name where several are as frequent."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for sample, stratum in zip(samples, strata(samples), strict=True):
        counts[sample.group][stratum] += 1
    groups: dict[str, list[str]] = defaultdict(list)
    for group, found in counts.items():
        groups[min(found, key=lambda stratum: (-found[stratum], stratum))].append(group)
    return groups


def _parts(count: int, validation: float, test: float) -> list[str]:
    """The part of each of ``count`` ranked groups."""
    tested = max(1, round(count * test)) if test > 0 and count >= 2 else 0
    validated = max(1, round(count * validation)) if validation > 0 and count >= 5 else 0
    return ["test"] * tested + ["validation"] * validated + ["train"] * (count - tested - validated)
