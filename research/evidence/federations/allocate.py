"""The number of sites that each modality feeds, and can feed, when a federation's data are dealt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from math import inf, sqrt

from fedgram.errors import ConfigError

from research.partition.dirichlet import CONCEPTS, LEAST, Group, partition


def allocate(samples: Mapping[str, int], most: Mapping[str, int], sites: int) -> dict[str, int]:
    """The number of sites of each modality: at least one, and the rest by the root of its samples (D'Hondt).

    Args:
        samples: of each modality.
        most: sites that each modality can feed.

    Raises:
        ConfigError: fewer sites than modalities, or more than they can feed.
    """
    if not len(samples) <= sites <= sum(most.values()):
        raise ConfigError(
            f"{sites}", where="sites", expected=f"{len(samples)} to {sum(most.values())} of these modalities"
        )
    given = dict.fromkeys(samples, 1)
    for _ in range(sites - len(samples)):
        open_ = [kind for kind in given if given[kind] < most[kind]]
        given[max(open_, key=lambda kind: sqrt(samples[kind]) / (given[kind] + 1))] += 1
    return given


def most_sites(groups: Sequence[Group], limit: int, unseen: Collection[str] = ()) -> int:
    """The most sites, up to ``limit``, that a pool can feed: those for which an even split gives each its due."""
    portions = 0
    for concept in {g.concept for g in groups} - set(unseen):
        own = [g for g in groups if g.concept == concept and g.part == "train"]
        needed = next((n for n in range(1, len(own) + 1) if _smallest(own, n) >= LEAST), 0)
        portions += len(own) // needed if needed else 0
    for sites in range(min(limit, portions // CONCEPTS), 1, -1):
        with suppress(ConfigError):
            partition(groups, sites, inf, 0, unseen)
            return sites
    return 1


def _smallest(groups: Sequence[Group], count: int) -> int:
    return sum(sorted(g.samples for g in groups)[:count])
