"""Groups of samples dealt to sites: a Dirichlet over concepts for each site (Hsu et al. 2019).

Every site k draws its own mixture q_k ~ Dir(α C p), p the shares of C concepts, and the sites take turns, the one
with the fewest samples next, drawing a concept from q_k and a group of it. So α counts for an average concept, as
in most later papers; Hsu's own α is C times that. Two departures, so that every run can train and be measured:
first each site is given :data:`LEAST` training samples of the two concepts that it has most of in q_k, and every
site has something to be tested on. What is tested does not depend on α. Concepts whose labels nobody trains on are
dealt evenly, besides.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import isinf

import numpy as np
from fedgram.errors import ConfigError

LEAST = 5  # training samples of each of two concepts, at every site
CONCEPTS = 2
_DRAWS = 100  # what leaves a site without its concepts or its test is drawn again


@dataclass(frozen=True)
class Group:
    """Samples that stay together: of one concept, and on one side of the split."""

    name: str
    concept: str
    part: str
    samples: int


def partition(
    groups: Sequence[Group],
    sites: int,
    alpha: float,
    seed: int,
    unseen: Collection[str] = (),
    concepts: int = CONCEPTS,
    tested: bool = True,
    least: int = LEAST,
) -> dict[str, int]:
    """Deal groups to sites: the site, counted from 0, of each group by name.

    Groups of ``train`` are dealt as above, or evenly concept by concept when α = ∞. Those of ``validation`` and
    ``test`` go to sites that train on their concept, in proportion to what these have of it, first of all to
    sites that would have no test.

    Args:
        groups: their order matters, as the seed does.
        unseen: concepts that do not count as one to train on.
        concepts: of how many a site has at least ``least`` training samples.
        tested: whether every site must have something to be tested on.

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
        elif not _by_dirichlet(deal, alpha, generator, unseen, concepts, least):
            continue
        for part in ("test", "validation"):
            _in_proportion(deal, [g for g in shuffled if g.part == part], part == "test")
        if _is_fair(deal, shuffled, unseen, concepts, tested, least):
            return deal.site_of
    test = " and a test group" if tested else ""
    raise ConfigError(
        f"{sites} sites from {len(groups)} groups",
        where="sites",
        expected=f"{least} training samples of each of {concepts} concepts{test} at every site",
        remedy="fewer sites, or a larger alpha",
    )


class _Deal:
    """The groups of one part that are still to be given, and what each site has."""

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


def _by_dirichlet(
    deal: _Deal, alpha: float, generator: np.random.Generator, unseen: Collection[str], each: int, least: int
) -> bool:
    """Deal the training groups; False when a site cannot have as many concepts as ``each``."""
    concepts = [c for c in deal.concepts if c not in unseen]
    left = np.array([deal.samples_left(c) for c in concepts], dtype=np.float64)
    mixtures = generator.dirichlet(alpha * len(concepts) * left / left.sum(), size=len(deal.sites))
    for _ in range(each):
        for site in deal.sites:
            wishes = [
                (mixtures[site][i], deal.samples_left(c), c)
                for i, c in enumerate(concepts)
                if not deal.have[site, c] and deal.samples_left(c) >= least
            ]
            if not wishes:
                return False
            concept = max(wishes)[2]
            while deal.have[site, concept] < least:
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
    waiting = {group.name: group for group in groups}
    given: Counter[tuple[int, str]] = Counter()

    def give(site: int, group: Group) -> None:
        del waiting[group.name]
        deal.site_of[group.name] = site
        given[site, group.concept] += group.samples

    def choices(site: int) -> list[Group]:
        return [g for g in waiting.values() if deal.have[site, g.concept]]

    if everyone:
        for site in sorted(deal.sites, key=lambda k: (len(choices(k)), k)):
            best = max(choices(site), key=lambda g, k=site: deal.have[k, g.concept], default=None)
            if best is not None:
                give(site, best)
    for group in list(waiting.values()):
        able = [k for k in deal.sites if deal.have[k, group.concept]]
        if able:
            share = {k: (given[k, group.concept] + 1) / deal.have[k, group.concept] for k in able}
            give(min(able, key=lambda k: (share[k], k)), group)


def _is_fair(
    deal: _Deal, groups: Sequence[Group], unseen: Collection[str], each: int, everywhere: bool, least: int
) -> bool:
    trained = [[c for c in deal.concepts if c not in unseen and deal.have[k, c] >= least] for k in deal.sites]
    tested = {
        deal.site_of[g.name]
        for g in groups
        if g.part == "test" and g.concept not in unseen and g.name in deal.site_of
    }
    measured = tested == set(deal.sites) or not everywhere
    return len(deal.site_of) == len(groups) and measured and min(map(len, trained)) >= each
