"""Which site of a modality has which group: a Dirichlet over concepts for each site (Hsu et al. 2019).

Every site k draws its own mixture q_k ~ Dir(α C p), p the shares of C concepts, and the sites take turns, the one
with the fewest samples next, drawing a concept from q_k and a group of it. So α counts for an average concept, as
in most later papers; Hsu's own α is C times that. Two departures, so that every run can train and be measured:
first each site is given :data:`LEAST` training samples of the two concepts that it has most of in q_k, and every
site has something to be tested on. What is tested does not depend on α. Concepts whose labels nobody of this
modality trains on are dealt evenly, besides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf, isinf, sqrt

import numpy as np
from fedgram.errors import ConfigError

LEAST = 5  # training samples of each of two concepts, at every site
_CONCEPTS = 2
_DRAWS = 100  # what leaves a site without its two concepts or its test is drawn again


@dataclass(frozen=True)
class Group:
    """Samples that stay together: of one concept, and on one side of the split."""

    name: str
    concept: str
    part: str
    samples: int


def allocate(samples: Mapping[str, int], most: Mapping[str, int], sites: int) -> dict[str, int]:
    """How many of the sites have each modality: at least one, and the rest by the root of its samples (D'Hondt).

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
    """How many sites a pool can feed, at most ``limit``: the most for which an even split gives each its due."""
    portions = 0
    for concept in {g.concept for g in groups} - set(unseen):
        own = [g for g in groups if g.concept == concept and g.part == "train"]
        needed = next((n for n in range(1, len(own) + 1) if _smallest(own, n) >= LEAST), 0)
        portions += len(own) // needed if needed else 0
    for sites in range(min(limit, portions // _CONCEPTS), 1, -1):
        with suppress(ConfigError):
            partition(groups, sites, inf, 0, unseen)
            return sites
    return 1


def _smallest(groups: Sequence[Group], count: int) -> int:
    return sum(sorted(g.samples for g in groups)[:count])


def partition(
    groups: Sequence[Group], sites: int, alpha: float, seed: int, unseen: Collection[str] = ()
) -> dict[str, int]:
    """Site, counted from 0, of each group by name.

    Groups of ``train`` are dealt as above, or evenly concept by concept when α = ∞. Those of ``validation`` and
    ``test`` go to sites that train on their concept, in proportion to what these have of it, first of all to
    sites that would have no test.

    Args:
        unseen: concepts that do not count as one to train on.

    Raises:
        ConfigError: α is not positive, or there are too few groups for so many sites.
    """
    if not alpha > 0:
        raise ConfigError(f"{alpha}", where="alpha", expected="positive; inf is an even split")
    if sites == 1:
        return {g.name: 0 for g in groups}
    generator = np.random.default_rng(seed)
    for _ in range(_DRAWS):
        shuffled = [groups[i] for i in generator.permutation(len(groups))]
        deal = _Deal([g for g in shuffled if g.part == "train"], sites)
        _evenly(deal, sorted(unseen))
        deal.total.clear()  # they are no training samples
        if isinf(alpha):
            _evenly(deal, deal.concepts)
        elif not _by_dirichlet(deal, alpha, generator, unseen):
            continue
        for part in ("test", "validation"):
            _in_proportion(deal, [g for g in shuffled if g.part == part], part == "test")
        if _is_fair(deal, shuffled, unseen):
            return deal.site_of
    raise ConfigError(
        f"{sites} sites from {len(groups)} groups",
        where="sites",
        expected=f"{LEAST} training samples of each of {_CONCEPTS} concepts and a test group at every site",
        remedy="fewer sites, or a larger alpha",
    )


class _Deal:
    """Groups of one part that are still to be given, and who has what."""

    def __init__(self, groups: Sequence[Group], sites: int):
        self.sites = range(sites)
        self.site_of: dict[str, int] = {}
        self.have: Counter[tuple[int, str]] = Counter()
        self.total: Counter[int] = Counter()
        self.left: dict[str, list[Group]] = defaultdict(list)
        for group in groups:
            self.left[group.concept].append(group)
        self.concepts = sorted(self.left)

    def samples_left(self, concept: str) -> int:
        return sum(g.samples for g in self.left[concept])

    def give(self, site: int, concept: str) -> None:
        group = self.left[concept].pop()
        self.site_of[group.name] = site
        self.have[site, concept] += group.samples
        self.total[site] += group.samples


def _evenly(deal: _Deal, concepts: Sequence[str]) -> None:
    for concept in concepts:
        while deal.left[concept]:
            deal.give(min(deal.sites, key=lambda k: (deal.have[k, concept], deal.total[k], k)), concept)


def _by_dirichlet(deal: _Deal, alpha: float, generator: np.random.Generator, unseen: Collection[str]) -> bool:
    """False when a site cannot have its two concepts."""
    concepts = [c for c in deal.concepts if c not in unseen]
    left = np.array([deal.samples_left(c) for c in concepts], dtype=np.float64)
    mixtures = generator.dirichlet(alpha * len(concepts) * left / left.sum(), size=len(deal.sites))
    for _ in range(_CONCEPTS):
        for site in deal.sites:
            wishes = [
                (mixtures[site][i], deal.samples_left(c), c)
                for i, c in enumerate(concepts)
                if not deal.have[site, c] and deal.samples_left(c) >= LEAST
            ]
            if not wishes:
                return False
            concept = max(wishes)[2]
            while deal.have[site, concept] < LEAST:
                deal.give(site, concept)
    while any(deal.left.values()):
        site = min(deal.sites, key=lambda k: (deal.total[k], k))
        there = np.array([len(deal.left[c]) for c in concepts], dtype=np.float64)
        odds = mixtures[site] * (there > 0)
        odds = odds if odds.sum() > 0 else there  # all that it wants is taken
        deal.give(site, concepts[generator.choice(len(there), p=odds / odds.sum())])
    return True


def _in_proportion(deal: _Deal, groups: Sequence[Group], everyone: bool) -> None:
    """Deal the groups of another part to the sites that train on their concepts."""
    waiting = list(groups)
    given: Counter[tuple[int, str]] = Counter()

    def give(site: int, group: Group) -> None:
        waiting.remove(group)
        deal.site_of[group.name] = site
        given[site, group.concept] += group.samples

    def choices(site: int) -> list[Group]:
        return [g for g in waiting if deal.have[site, g.concept]]

    if everyone:
        for site in sorted(deal.sites, key=lambda k: (len(choices(k)), k)):
            best = max(choices(site), key=lambda g, k=site: deal.have[k, g.concept], default=None)
            if best is not None:
                give(site, best)
    for group in list(waiting):
        able = [k for k in deal.sites if deal.have[k, group.concept]]
        if able:
            share = {k: (given[k, group.concept] + 1) / deal.have[k, group.concept] for k in able}
            give(min(able, key=lambda k: (share[k], k)), group)


def _is_fair(deal: _Deal, groups: Sequence[Group], unseen: Collection[str]) -> bool:
    trained = [[c for c in deal.concepts if c not in unseen and deal.have[k, c] >= LEAST] for k in deal.sites]
    tested = {
        deal.site_of[g.name]
        for g in groups
        if g.part == "test" and g.concept not in unseen and g.name in deal.site_of
    }
    return len(deal.site_of) == len(groups) and tested == set(deal.sites) and min(map(len, trained)) >= _CONCEPTS
