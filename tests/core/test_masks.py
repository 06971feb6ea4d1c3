from __future__ import annotations

from collections import Counter

import pytest
import torch
from fedgram.core.masks import agreed, derived, masked, pair_mask, public_key, stream
from fedgram.core.shares import joined, split, threshold
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference.masks import masked as slow_masked
from reference.masks import wrapped

NAMES = ("ant", "bee", "cat", "dog")
WORDS = st.integers(-(2**63), 2**63 - 1)


def seeds_of(names: tuple[str, ...]) -> dict[str, dict[str, bytes]]:
    """The seeds of each site's pairs, by site and the other."""
    own = {name: derived(b"test", name) for name in names}
    return {
        one: {other: agreed(own[one], public_key(own[other])) for other in names if other != one} for one in names
    }


@given(st.lists(st.tuples(WORDS, WORDS), min_size=2, max_size=4))
def test_the_masks_of_pairs_add_up_to_nothing_and_what_is_left_are_the_sites_own(values):
    names = NAMES[: len(values)]
    pairs = seeds_of(names)
    hidden = [
        masked(name, {"x": torch.tensor(value)}, derived(b"own", name), pairs[name])["x"]
        for name, value in zip(names, values, strict=True)
    ]
    own = sum((stream(derived(b"own", name), "x", (2,)) for name in names), torch.zeros(2, dtype=torch.int64))
    total = sum(hidden, torch.zeros(2, dtype=torch.int64)) - own
    assert total.tolist() == [wrapped(sum(column)) for column in zip(*values, strict=True)]


def test_masked_values_are_those_of_the_slow_reference():
    values, pairs = {"x": torch.tensor([2**63 - 1, -5, 0]), "y": torch.tensor(7)}, seeds_of(NAMES)["bee"]
    ours = masked("bee", values, b"seed", pairs)
    theirs = slow_masked("bee", {k: v.flatten().tolist() for k, v in values.items()}, b"seed", pairs)
    assert {k: v.flatten().tolist() for k, v in ours.items()} == theirs
    assert all(ours[k].shape == v.shape for k, v in values.items())


def test_a_mask_is_of_its_seed_and_label_alone():
    first = stream(b"a", "x", (3, 4))
    assert torch.equal(first, stream(b"a", "x", (3, 4)))
    assert not torch.equal(first, stream(b"a", "y", (3, 4)))
    assert not torch.equal(first, stream(b"b", "x", (3, 4)))
    assert stream(b"a", "x", (0, 4)).shape == (0, 4)
    assert torch.equal(pair_mask("ant", "bee", b"a", "x", (3,)), -pair_mask("bee", "ant", b"a", "x", (3,)))


@pytest.mark.parametrize("value", [0, 123456789, -(2**62)])
def test_under_masks_any_value_looks_uniform(value):
    """Chi-square over the 256 values of each byte; 330 is exceeded once in 1000."""
    hidden = masked("bee", {"x": torch.full((4000,), value)}, b"seed", seeds_of(NAMES)["bee"])["x"]
    found = Counter(hidden.view(torch.uint8).tolist())
    expected = 8 * len(hidden) / 256
    assert sum((found[byte] - expected) ** 2 / expected for byte in range(256)) < 330


def test_two_sites_agree_on_a_secret_that_depends_on_both():
    ant, bee, cat = (derived(b"test", name) for name in NAMES[:3])
    assert agreed(ant, public_key(bee)) == agreed(bee, public_key(ant)) != agreed(ant, public_key(cat))


@pytest.mark.parametrize("key", [bytes(32), b"short"])
def test_a_public_key_that_is_none_is_refused(key):
    with pytest.raises(FedgramError, match="a public key that is none"):
        agreed(derived(b"test"), key)


# --- shares


@pytest.mark.parametrize(("sites", "needed"), [(3, 3), (4, 3), (5, 4), (6, 4), (7, 5), (9, 6), (16, 11), (64, 43)])
def test_the_threshold_by_hand(sites, needed):
    assert threshold(sites) == needed


def test_any_shares_that_are_enough_give_the_secret_and_fewer_give_none():
    secret = bytes(range(32))
    shares = dict(enumerate(split(secret, 3, 5), start=1))
    assert all(len(share) == 32 for share in shares.values())
    for gone in ((1, 2), (2, 4), (5,), ()):
        assert joined({n: s for n, s in shares.items() if n not in gone}, 3) == secret
    assert joined({n: shares[n] for n in (1, 2)}, 2) != secret
    with pytest.raises(FedgramError, match=r"2 shares of a secret\n  expected: 3"):
        joined({n: shares[n] for n in (1, 2)}, 3)
    with pytest.raises(FedgramError, match="of one length"):
        joined({**shares, 3: b"short"}, 3)
