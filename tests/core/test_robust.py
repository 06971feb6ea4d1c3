"""Rules by which a minority of liars cannot move the aggregate, and the bounds on what a single reply may do."""

from __future__ import annotations

import itertools
import json
import math
import statistics
from pathlib import Path

import pytest
import torch
from fedgram.core import bounds, robust
from fedgram.core.aggregate import GramConsensus, WeightedMean
from fedgram.core.gram import check_gram, cosine_gram
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import robust as reference
from strategies import normal

EXACT = {"rtol": 0, "atol": 0}
BYZFL = json.loads(Path(__file__).with_name("byzfl_0_0_11.json").read_text())  # its header says how it was made
RULES = ("trimmed_mean", "median", "centred_clipping")


@st.composite
def rows(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    """K updates of a few numbers, and their weights."""
    count, size = draw(st.integers(1, 8)), draw(st.integers(1, 4))
    x = normal(draw(st.integers(0, 10**6)), count, size).double()
    weights = draw(st.lists(st.floats(0.5, 50), min_size=count, max_size=count))
    return x, torch.tensor(weights, dtype=torch.float64)


def combined(rule: str, x: torch.Tensor, p: torch.Tensor, tolerated: float = 0.3, mixing: bool = False):
    rule_of = robust.combine(rule, tolerated, mixing=mixing)
    assert rule_of is not None
    return rule_of(x, p)


def close(got: torch.Tensor, expected: object, tolerance: float = 1e-9) -> None:
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance)


@given(rows(), st.integers(0, 3))
def test_trimmed_mean_and_median_equal_loops(given_rows, liars):
    x, p = given_rows
    if 2 * liars < len(x):
        close(robust.trimmed_mean(x, p, liars), reference.trimmed_mean(x.tolist(), p.tolist(), liars))
    middle = (len(x) - 1) // 2
    close(robust.coordinate_median(x, p), reference.trimmed_mean(x.tolist(), p.tolist(), middle))


@given(rows(), st.floats(0.01, 5), st.integers(1, 3))
def test_centred_clipping_equals_loops(given_rows, radius, steps):
    x, p = given_rows
    centre = torch.zeros(x.shape[1], dtype=torch.float64)
    expected = reference.centred_clipping(x.tolist(), p.tolist(), centre.tolist(), radius, steps)
    close(robust.centred_clipping(x, p, centre, radius, steps), expected)


@given(rows(), st.integers(0, 3))
def test_mixing_equals_loops(given_rows, liars):
    x, p = given_rows
    if liars < len(x):
        expected = reference.nearest_neighbour_mixing(x.tolist(), p.tolist(), liars)
        close(robust.nearest_neighbour_mixing(x, p, liars), expected)


@given(rows(), st.data())
def test_the_entry_median_equals_loops_and_leaves_out_what_is_missing(given_rows, data):
    x, _ = given_rows
    missing = data.draw(st.lists(st.booleans(), min_size=x.numel(), max_size=x.numel()))
    x = x.masked_fill(torch.tensor(missing).reshape(x.shape), math.nan)
    expected = torch.tensor(reference.entry_median(x.tolist()), dtype=torch.float64)
    torch.testing.assert_close(robust.entry_median(x), expected, equal_nan=True)
    order = data.draw(st.permutations(range(len(x))))
    torch.testing.assert_close(
        robust.entry_median(x[list(order)]), robust.entry_median(x), **EXACT, equal_nan=True
    )


@given(rows(), st.sampled_from(RULES), st.booleans(), st.data())
def test_a_permutation_of_sites_changes_nothing(given_rows, rule, mixing, data):
    x, p = given_rows
    order = list(data.draw(st.permutations(range(len(x)))))
    torch.testing.assert_close(
        combined(rule, x[order], p[order], mixing=mixing), combined(rule, x, p, mixing=mixing)
    )


@given(st.integers(0, 10**6), st.integers(8, 16), st.sampled_from(RULES))
def test_mixed_updates_that_tie_are_told_apart_by_weight_and_not_by_rounding(seed, count, rule):
    """Neighbours of one another become one value; which of their weights counts may not hang on the last bit."""
    x, p = normal(seed, count, 3).double(), torch.arange(1, count + 1, dtype=torch.float64)
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(
        combined(rule, x[order], p[order], mixing=True), combined(rule, x, p, mixing=True), rtol=1e-9, atol=1e-9
    )


@given(rows(), st.sampled_from(RULES), st.booleans())
def test_a_shift_and_a_scale_go_through(given_rows, rule, mixing):
    x, p = given_rows
    shift = torch.arange(x.shape[1], dtype=torch.float64)
    moved = combined(rule, 3 * x + shift, p, mixing=mixing)
    torch.testing.assert_close(moved, 3 * combined(rule, x, p, mixing=mixing) + shift, rtol=1e-6, atol=1e-6)


@given(rows(), st.sampled_from(RULES), st.booleans())
def test_with_nobody_to_tolerate_every_rule_is_the_mean(given_rows, rule, mixing):
    x, p = given_rows
    close(combined(rule, x, p, tolerated=0.0, mixing=mixing), reference.mean(x.tolist(), p.tolist()))
    close(robust.trimmed_mean(x, p, 0), reference.mean(x.tolist(), p.tolist()))
    close(robust.nearest_neighbour_mixing(x, p, 0)[0], reference.mean(x.tolist(), p.tolist()))


@pytest.mark.parametrize("mixing", [False, True])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [1e3, 1e9])
def test_one_liar_of_four_is_bounded_whatever_it_sends_and_claims(rule, mixing, size):
    honest = normal(3, 3, 6).double()
    for direction in (1.0, -1.0):
        x = torch.cat([honest, torch.full((1, 6), direction * size, dtype=torch.float64)])
        p = torch.tensor([1.0, 1.0, 1.0, 1e6], dtype=torch.float64)
        p[3] = 2.0 if rule == "centred_clipping" else p[3]  # clipping, too, needs weights that are bounded
        assert (combined(rule, x, p, mixing=mixing) - honest.mean(0)).norm() < 3 * honest.norm(dim=1).max()
    assert robust.mean(x, p).norm() > 0.2 * size  # what is seen without the rule


def test_by_hand():
    """Values 1, 2, 3, 100 of weights 1, 1, 3, 9: without the extremes (2 + 3 · 3) / 4; nearest three of 1: 2.2."""
    x = torch.tensor([[1.0], [2.0], [3.0], [100.0]], dtype=torch.float64)
    p = torch.tensor([1.0, 1.0, 3.0, 9.0], dtype=torch.float64)
    close(robust.trimmed_mean(x, p, 1), [2.75])
    close(robust.coordinate_median(x, p), [2.75])
    close(robust.nearest_neighbour_mixing(x, p, 1)[0], [12 / 5])
    even = torch.ones(4, dtype=torch.float64)
    close(
        robust.centred_clipping(x, even, torch.tensor([2.0], dtype=torch.float64), 2.0), [2 + (-1 + 0 + 1 + 2) / 4]
    )
    assert robust.lower_median([5.0, 1.0, 4.0, 2.0]) == 2.0
    assert robust.lower_median([5.0, 1.0, 4.0]) == 4.0


def test_byzfl_says_the_same():
    x = torch.tensor(BYZFL["x"], dtype=torch.float64)
    p = torch.ones(len(x), dtype=torch.float64)
    mixed = robust.nearest_neighbour_mixing(x, p, 2)
    zero = torch.zeros(x.shape[1], dtype=torch.float64)
    close(robust.trimmed_mean(x, p, 2), BYZFL["trimmed_mean 2"], 1e-6)
    close(robust.trimmed_mean(x, p, 0), BYZFL["trimmed_mean 0"], 1e-6)
    close(robust.coordinate_median(x, p), BYZFL["median"], 1e-6)
    close(robust.centred_clipping(x, p, zero, 1.5, 3), BYZFL["centred_clipping"], 1e-6)
    close(mixed, BYZFL["mixing 2"], 1e-6)
    close(robust.trimmed_mean(mixed, p, 2), BYZFL["mixing 2, trimmed_mean 2"], 1e-6)


def test_every_error():
    x, p = normal(0, 4, 2).double(), torch.ones(4, dtype=torch.float64)
    for liars in (-1, 2):
        with pytest.raises(FedgramError, match=f"{liars} liars among 4 updates"):
            robust.trimmed_mean(x, p, liars)
    with pytest.raises(FedgramError, match="4 liars among 4 updates"):
        robust.nearest_neighbour_mixing(x, p, 4)
    with pytest.raises(FedgramError, match="a median of no values"):
        robust.lower_median([])
    with pytest.raises(FedgramError, match=r"(?s)rule 'krum'.*mean \| trimmed_mean"):
        robust.combine("krum", 0.25, mixing=False)
    for share in (-0.1, 0.5):
        with pytest.raises(FedgramError, match=f"tolerated = {share}"):
            robust.combine("median", share, mixing=False)
    assert robust.combine("mean", 0.25, mixing=False) is None  # streamed: nothing is held


# --- within the sum, and the consensus ---


def test_a_rule_holds_all_replies_and_gives_the_same_bits_in_any_order():
    updates = {f"s{k}": {"a": normal(k, 2, 3), "b": normal(k + 50, 4)} for k in range(5)}
    results = []
    for order in (sorted(updates), sorted(updates, reverse=True)):
        held = WeightedMean({"a": (2, 3), "b": (4,)}, combine=robust.combine("trimmed_mean", 0.25, mixing=True))
        for site in order:
            held.add(site, updates[site], 1.0 + int(site[1]))
        results.append(held.close())
    torch.testing.assert_close(results[0], results[1], **EXACT)
    flat = torch.stack([torch.cat([u["a"].flatten(), u["b"]]).double() for u in updates.values()])
    expected = combined("trimmed_mean", flat, torch.arange(1.0, 6.0, dtype=torch.float64), 0.25, mixing=True)
    torch.testing.assert_close(results[0]["b"], expected[6:])


def test_one_gram_of_four_cannot_move_the_median_consensus():
    grams = [cosine_gram(normal(5, 6, 4) + 0.1 * normal(k, 6, 4)) for k in range(3)]
    signs = 1.0 - 2.0 * (torch.arange(6) % 2)
    moved = {}
    for median in (False, True):
        consensus = GramConsensus(6, median=median)
        for k, gram in enumerate([*grams, torch.outer(signs, signs)]):
            consensus.add(f"s{k}", gram, tuple(range(6)))
        moved[median] = (consensus.close() - torch.stack(grams).mean(0)).abs().max().item()
    assert moved[True] < 0.15 < 0.3 < moved[False]


# --- bounds ---


def test_what_is_usual_by_hand():
    """Rounds with norms 1 2 9 0 and 4 6: medians 2 and 4, of these 2; a site that sends nothing says nothing."""
    past = bounds.extended({}, {"update": [1.0, 2.0, 9.0, 0.0], "m": [0.0]})
    past = bounds.extended(past, {"update": [6.0, 4.0]})
    assert past == {"update": (2.0, 4.0)}
    assert bounds.limit(past, "update", 3.0) == 6.0
    assert bounds.limit(past, "m", 3.0, first=0.5) == 0.5
    assert bounds.limit(past, "update", 0) == bounds.limit({}, "update", 3.0) == math.inf
    assert bounds.shortened(9.0, 6.0) == 2 / 3
    assert bounds.shortened(6.0, 6.0) == bounds.shortened(0.0, 6.0) == bounds.shortened(1e9, math.inf) == 1.0
    for k in range(9):
        past = bounds.extended(past, {"update": [float(k)] * 3})
    assert past["update"] == (4.0, 5.0, 6.0, 7.0, 8.0)


@given(st.lists(st.floats(0.1, 10), min_size=3, max_size=9), st.floats(0, 1e9))
def test_a_minority_cannot_raise_what_is_usual_above_the_honest_sites(honest, lie):
    liars = [lie] * ((len(honest) - 1) // 2)
    assert bounds.extended({}, {"update": [*honest, *liars]})["update"][0] <= max(honest)


def test_the_median_consensus_is_that_of_each_pair_over_the_sites_that_cover_it():
    generator, total = torch.Generator().manual_seed(3), 40  # more rows than are taken at once
    covered = [tuple(range(40)), tuple(range(0, 40, 2)), tuple(range(1, 17)), (0, 15, 16, 39)]
    grams = [cosine_gram(torch.randn(len(slots), 8, generator=generator)) for slots in covered]
    consensus = GramConsensus(total, median=True)
    for number, (gram, slots) in enumerate(zip(grams, covered, strict=True)):
        consensus.add(str(number), gram, slots)
    found = consensus.close()
    for i, j in itertools.product(range(total), repeat=2):
        values = [
            gram[slots.index(i), slots.index(j)].item()
            for gram, slots in zip(grams, covered, strict=True)
            if i in slots and j in slots
        ]
        expected = statistics.median(values) if len(values) > 1 else float("nan")
        assert found[i, j].item() == pytest.approx(expected, nan_ok=True)


def test_a_gram_is_drawn_towards_the_consensus():
    consensus = torch.full((4, 4), math.nan)
    consensus[:3, :3] = torch.eye(3)
    gram = cosine_gram(normal(1, 3, 4))
    distance = bounds.gram_distance(gram, consensus, (0, 1, 2))
    assert distance == pytest.approx((gram - torch.eye(3)).square().mean().sqrt().item(), abs=1e-6)
    half = bounds.gram_towards(gram, consensus, (0, 1, 2), 0.5)
    torch.testing.assert_close(half, (gram + torch.eye(3)).double() / 2, atol=1e-6, rtol=0)
    assert check_gram(half) is None
    alone = bounds.gram_towards(gram, consensus, (1, 2, 3), 0.5)
    torch.testing.assert_close(alone[2], gram[2].double(), **EXACT)  # nobody else has slot 3
    assert bounds.gram_distance(gram[:1, :1], consensus, (3,)) == 0.0
    assert torch.equal(bounds.gram_towards(gram, consensus, (0, 1, 2), 1.0), gram.double())
