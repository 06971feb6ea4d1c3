"""The dealing of groups to sites: nothing is lost, split or leaked, and α does what it says."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
import pytest
from fedgram.errors import ConfigError
from hypothesis import given
from hypothesis import strategies as st

from research.evidence.federations.allocate import allocate, most_sites
from research.partition.dirichlet import LEAST, Group, partition

EVEN = float("inf")
ALPHAS = (0.1, 0.5, EVEN)


def make_groups(concepts: int, train: int, samples: int = 1) -> list[Group]:
    parts = ["train"] * train + ["test"] * max(2, train // 4) + ["validation"] * max(1, train // 8)
    return [
        Group(f"{concept}-{number}", f"c{concept}", part, samples)
        for concept in range(concepts)
        for number, part in enumerate(parts)
    ]


def counts(groups: list[Group], site_of: dict[str, int], part: str) -> dict[int, Counter[str]]:
    """Samples by concept at each site."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for group in groups:
        if group.part == part:
            found[site_of[group.name]][group.concept] += group.samples
    return found


@given(
    concepts=st.integers(2, 8),
    train=st.integers(20, 40),
    samples=st.integers(1, 3),
    sites=st.integers(1, 4),
    alpha=st.sampled_from(ALPHAS),
    seed=st.integers(0, 99),
)
def test_every_group_is_at_one_site_that_can_train_and_be_tested(concepts, train, samples, sites, alpha, seed):
    groups = make_groups(concepts, train, samples)
    site_of = partition(groups, sites, alpha, seed)
    assert set(site_of) == {group.name for group in groups}
    trained, tested = counts(groups, site_of, "train"), counts(groups, site_of, "test")
    assert set(trained) == set(tested) == set(range(sites))
    for site in range(sites):
        assert sum(count >= LEAST for count in trained[site].values()) >= 2
        assert set(tested[site]) <= set(trained[site])


@given(seed=st.integers(0, 20), alpha=st.sampled_from(ALPHAS))
def test_the_same_seed_gives_the_same_sites(seed, alpha):
    groups = make_groups(4, 24)
    assert partition(groups, 3, alpha, seed) == partition(groups, 3, alpha, seed)


def test_another_seed_gives_other_sites():
    groups = make_groups(4, 24)
    assert all(partition(groups, 3, alpha, 0) != partition(groups, 3, alpha, 1) for alpha in ALPHAS)


def test_infinite_alpha_is_an_even_split():
    """12 groups of each of 3 concepts, 4 sites: 3 of each everywhere, and the same of what is tested."""
    groups = make_groups(3, 12, samples=2)
    trained = counts(groups, partition(groups, 4, EVEN, 5), "train")
    assert all(trained[site] == {"c0": 6, "c1": 6, "c2": 6} for site in range(4))


def skew(alpha: float) -> float:
    """Mean total variation between a site's concepts and all concepts, over seeds."""
    groups = make_groups(6, 60)
    found = []
    for seed in range(12):
        for own in counts(groups, partition(groups, 4, alpha, seed), "train").values():
            shares = np.array([own[f"c{i}"] for i in range(6)]) / sum(own.values())
            found.append(np.abs(shares - 1 / 6).sum() / 2)
    return float(np.mean(found))


def test_a_smaller_alpha_is_more_skewed():
    low, middle, high, even = map(skew, (0.1, 0.5, 100.0, EVEN))
    assert low > middle + 0.05 > high + 0.1
    assert even < 0.02


def test_sites_are_of_equal_size_whatever_alpha():
    """They take turns (Hsu et al. 2019): no site has more than one group more than another."""
    groups = make_groups(5, 40)
    for alpha in (0.1, 0.5):
        sizes = [sum(own.values()) for own in counts(groups, partition(groups, 4, alpha, 3), "train").values()]
        assert max(sizes) - min(sizes) <= 1


def test_an_unseen_concept_does_not_count():
    groups = make_groups(3, 24)
    for seed in range(10):
        trained = counts(groups, partition(groups, 3, 0.1, seed, {"c0"}), "train")
        assert all(own["c1"] >= LEAST and own["c2"] >= LEAST for own in trained.values())


def test_too_many_sites_are_refused():
    with pytest.raises(ConfigError, match="9 sites"):
        partition(make_groups(2, 20), 9, 0.5, 0)
    with pytest.raises(ConfigError, match="9 sites"):
        partition(make_groups(2, 20), 9, EVEN, 0)


def test_alpha_must_be_positive():
    with pytest.raises(ConfigError, match="alpha"):
        partition(make_groups(2, 20), 2, 0.0, 0)


def test_sites_by_hand():
    """Roots 20, 10 and 5: after one each, 20/2 beats 10/2; then 20/3 beats 10/2; then 20/4 = 10/2, the first."""
    samples = {"a": 400, "b": 100, "c": 25}
    plenty = dict.fromkeys(samples, 99)
    assert allocate(samples, plenty, 4) == {"a": 2, "b": 1, "c": 1}
    assert allocate(samples, plenty, 5) == {"a": 3, "b": 1, "c": 1}
    assert allocate(samples, plenty, 7) == {"a": 4, "b": 2, "c": 1}
    assert allocate(samples, {**plenty, "a": 2}, 5) == {"a": 2, "b": 2, "c": 1}


@pytest.mark.parametrize("sites", [1, 7])
def test_a_number_of_sites_that_cannot_be(sites):
    with pytest.raises(ConfigError, match=f"sites: {sites}"):
        allocate({"a": 10, "b": 10}, {"a": 3, "b": 3}, sites)


def test_most_sites_by_hand():
    """12 single samples of each concept: 6 of each at two sites, 4 at three, which is fewer than 5."""
    groups = make_groups(3, 12)
    assert most_sites(groups, 16) == 2
    assert most_sites(make_groups(3, 15), 16) == 3
    assert most_sites(make_groups(3, 15), 2) == 2
    assert most_sites(make_groups(2, 15), 16, {"c0"}) == 1
    assert most_sites([g for g in groups if g.part == "train"], 16) == 1


@given(
    sizes=st.lists(st.integers(2, 40), min_size=2, max_size=6),
    samples=st.sampled_from([1, 7]),
    alpha=st.sampled_from(ALPHAS),
    seed=st.integers(0, 99),
)
def test_what_a_pool_can_feed_it_does_feed(sizes, samples, alpha, seed):
    groups = [
        Group(f"{c}-{n}", f"c{c}", part, samples)
        for c, size in enumerate(sizes)
        for n, part in enumerate(["train"] * size + ["test"] * max(1, size // 4))
    ]
    sites = most_sites(groups, 8)
    assert set(partition(groups, sites, alpha, seed).values()) == set(range(sites))


def test_samples_of_an_unseen_concept_take_no_site_s_turn():
    """One site has all 60 samples that nobody trains on; of the others it has as many as its fellow."""
    groups = [*make_groups(3, 24), Group("big", "c9", "train", 60)]
    for seed in range(5):
        trained = counts(groups, partition(groups, 2, 0.5, seed, {"c9"}), "train")
        sizes = [sum(own.values()) - own["c9"] for own in trained.values()]
        assert sorted(own["c9"] for own in trained.values()) == [0, 60]
        assert abs(sizes[0] - sizes[1]) <= 1
