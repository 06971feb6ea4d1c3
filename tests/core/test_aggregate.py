from __future__ import annotations

import math
import random

import pytest
import torch
from fedgram.core.aggregate import FixedPointSum, GramConsensus, WeightedMean, capped_weights, target_gram
from fedgram.core.cka import cka
from fedgram.core.gram import cosine_gram
from fedgram.core.robust import combine
from fedgram.errors import FedgramError
from hypothesis import assume, given
from hypothesis import strategies as st
from reference import aggregate as reference
from strategies import SHAPES, max_shares, normal, partial_grams, update, weights

NAN = float("nan")
EXACT = {"rtol": 0, "atol": 0, "equal_nan": True}


def tensors_held(value, seen=None) -> int:
    """How many tensors an object keeps alive, through its attributes and containers."""
    seen = set() if seen is None else seen
    if id(value) in seen:
        return 0
    seen.add(id(value))
    if isinstance(value, torch.Tensor):
        return 1
    if isinstance(value, dict):
        return sum(tensors_held(item, seen) for item in value.values())
    if isinstance(value, list | tuple | set):
        return sum(tensors_held(item, seen) for item in value)
    return tensors_held(vars(value), seen) if hasattr(value, "__dict__") else 0


# --- FixedPointSum ---


@given(st.lists(st.floats(-1e5, 1e5), max_size=50), st.randoms(use_true_random=False))
def test_sum_is_exact_to_one_rounding_per_term_in_any_order(values, shuffle):
    def total(terms):
        result = FixedPointSum(())
        for term in terms:
            result.add(torch.tensor(term, dtype=torch.float64))
        return result.value().item()

    shuffled = shuffle.sample(values, len(values))
    assert total(values) == total(shuffled)
    assert total(values) == pytest.approx(math.fsum(values), rel=1e-15, abs=(len(values) + 1) * 2.0**-37)


@pytest.mark.parametrize(("steps", "kept"), [(0.75, 1), (-0.75, -1), (0.25, 0), (-0.25, 0), (3.0, 3)])
def test_a_term_is_rounded_to_the_nearest_step(steps, kept):
    """To nearest, not down: rounding must not push a thousand small terms all one way."""
    total = FixedPointSum(())
    total.add(torch.tensor(steps * 2.0**-36))
    assert total.value().item() == kept * 2.0**-36


def test_float_addition_would_depend_on_the_order():
    """What the fixed point is for."""
    values = [1e5, 1e-4, -1e5, 0.1, 0.2, 0.3]
    assert sum(values) != sum(reversed(values))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
def test_sum_takes_every_dtype(dtype):
    total = FixedPointSum((2,))
    total.add(torch.tensor([1, -3]).to(dtype))
    total.add(torch.tensor([1, -3]).to(dtype))
    torch.testing.assert_close(total.value(), torch.tensor([2.0, -6.0], dtype=torch.float64), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("term", "words"),
    [
        (torch.ones(3), "shape (3,)"),
        (torch.tensor([1.0, NAN]), "size nan"),
        (torch.tensor([1.0, -math.inf]), "size inf"),
        (torch.tensor([1.0, -7e7]), "size 7e+07"),
    ],
)
def test_sum_refuses_and_stays_as_it_was(term, words):
    total = FixedPointSum((2,))
    total.add(torch.tensor([1.0, 2.0]))
    with pytest.raises(FedgramError) as error:
        total.add(term)
    assert words in error.value.problem
    assert "shape (2,) and a finite sum below 6.71e+07" in str(error.value)
    torch.testing.assert_close(total.value(), torch.tensor([1.0, 2.0], dtype=torch.float64), rtol=0, atol=0)


def test_sum_refuses_before_it_could_overflow():
    """2²⁶ in all fits, nothing on top of it does; cancellation earns no room."""
    total = FixedPointSum(())
    total.add(torch.tensor(2.0**25))
    total.add(torch.tensor(-(2.0**25)))
    assert total.value() == 0
    with pytest.raises(FedgramError, match="a finite sum"):
        total.add(torch.tensor(1.0))


def test_a_sum_of_empty_tensors_is_empty():
    total = FixedPointSum((0, 3))
    total.add(torch.ones(0, 3))
    assert total.value().shape == (0, 3)


# --- capped_weights ---


@given(weights(), max_shares)
def test_cap_equals_bisection(given_weights, c):
    assume(not 1 < len(given_weights) * c < 1 + 1e-6)  # there the ceiling is ill-conditioned
    expected = reference.capped_weights(given_weights, c)
    assert capped_weights(given_weights, c) == pytest.approx(expected, rel=1e-6)


@given(weights(), max_shares)
def test_nobody_holds_more_than_the_share(given_weights, c):
    capped = capped_weights(given_weights, c)
    floor = 1 / len(capped)  # K sites cannot all hold less
    assert max(capped.values()) / sum(capped.values()) <= max(c, floor) * (1 + 1e-9)


@given(weights(), max_shares)
def test_nobody_below_the_ceiling_changes(given_weights, c):
    capped = capped_weights(given_weights, c)
    ceiling = max(capped.values())
    assert all(
        capped[site] in (weight, ceiling) and capped[site] <= weight for site, weight in given_weights.items()
    )
    if max(given_weights.values()) < c * sum(given_weights.values()):
        assert capped == given_weights


@given(weights(), max_shares, st.floats(1e-3, 1e3))
def test_cap_scales_with_the_weights_and_ignores_their_order(given_weights, c, scale):
    capped = capped_weights(given_weights, c)
    scaled = capped_weights({site: scale * weight for site, weight in given_weights.items()}, c)
    assert scaled == pytest.approx({site: scale * weight for site, weight in capped.items()}, rel=1e-9)
    assert capped_weights(dict(reversed(given_weights.items())), c) == capped


def test_cap_by_hand():
    """c = 0.4 and weights 6, 2, 1, 1: t = 0.4 (t + 4) gives t = 8/3, a share of (8/3) / (20/3) = 0.4."""
    capped = capped_weights({"a": 6.0, "b": 2.0, "c": 1.0, "d": 1.0}, 0.4)
    assert capped == pytest.approx({"a": 8 / 3, "b": 2.0, "c": 1.0, "d": 1.0})


def test_cap_of_few_sites_makes_them_equal():
    assert capped_weights({"a": 9.0, "b": 3.0}, 0.5) == {"a": 3.0, "b": 3.0}
    assert capped_weights({"a": 9.0}, 0.1) == {"a": 9.0}
    assert capped_weights({}, 0.1) == {}


def test_cap_at_the_reciprocal_of_a_number_of_sites():
    """c = 1/n is not exact: with n large weights and one tiny one, 1 − c n is 0 or rounding error."""
    for sites in range(2, 60):
        staggered = {f"{k:02d}": 2.0**k for k in range(sites)} | {"tiny": 1e-20}
        capped = capped_weights(staggered, 1 / sites)
        assert capped == pytest.approx(dict.fromkeys(staggered, 1.0) | {"tiny": 1e-20}, rel=1e-9), sites


@pytest.mark.parametrize("c", [0.0, -0.5, 1.01, NAN])
def test_cap_refuses_a_share_out_of_range(c):
    for construct in (lambda: capped_weights({"a": 1.0}, c), lambda: WeightedMean(SHAPES, c)):
        with pytest.raises(FedgramError, match=f"max_share = {c}") as error:
            construct()
        assert error.value.expected == "0 < max_share ≤ 1"


# --- WeightedMean ---


def mean_of(given_weights, c=1.0, order=None, updates=None):
    mean = WeightedMean(SHAPES, c)
    for site in order or given_weights:
        mean.add(site, (updates or {}).get(site, update(hash_of(site))), given_weights[site])
    return mean.shares(), mean.close()


def hash_of(site: str) -> int:
    return sum(map(ord, site)) * 7


def assert_same_bits(one, other):
    assert one[0] == other[0]
    torch.testing.assert_close(one[1], other[1], **EXACT)


@given(weights(), max_shares)
def test_mean_equals_rational_arithmetic(given_weights, c):
    assume(not 1 < len(given_weights) * c < 1 + 1e-6)
    capped = reference.capped_weights(given_weights, c)
    updates = {site: update(hash_of(site)) for site in given_weights}
    expected = reference.weighted_mean(updates, capped)
    shares, mean = mean_of(given_weights, c)
    for name, shape in SHAPES.items():
        values = torch.tensor([float(value) for value in expected[name]], dtype=torch.float64).reshape(shape)
        resolution = (len(capped) + 1) * 2.0**-37 / sum(capped.values())
        torch.testing.assert_close(mean[name], values, rtol=0, atol=resolution + 1e-5 * (c < 1) + 1e-12)
    total = sum(capped.values())
    assert shares == pytest.approx({site: weight / total for site, weight in capped.items()}, rel=1e-6)


@given(weights(), max_shares, st.randoms(use_true_random=False))
def test_mean_is_the_same_bits_in_any_order_of_arrival(given_weights, c, shuffle):
    arrived = mean_of(given_weights, c)
    for _ in range(3):
        order = shuffle.sample(list(given_weights), len(given_weights))
        assert_same_bits(mean_of(given_weights, c, order), arrived)


def test_equal_weights_at_the_cap_are_the_same_bits_in_any_order():
    """Ties decide who is held apart; they must not decide the result."""
    given_weights = {f"site-{k}": [1.0, 1.0, 5.0, 5.0, 5.0, 9.0][k] for k in range(6)}
    arrived = mean_of(given_weights, 0.25)
    for seed in range(50):
        order = random.Random(seed).sample(list(given_weights), 6)
        assert_same_bits(mean_of(given_weights, 0.25, order), arrived)


@given(weights(), max_shares)
def test_mean_of_permuted_sites(given_weights, c):
    """Names carry no meaning: the same replies under other names give the same mean."""
    renamed = {f"other-{k}": site for k, site in enumerate(reversed(given_weights))}
    updates = {new: update(hash_of(old)) for new, old in renamed.items()}
    _, mean = mean_of({new: given_weights[old] for new, old in renamed.items()}, c, updates=updates)
    torch.testing.assert_close(mean, mean_of(given_weights, c)[1], rtol=1e-9, atol=1e-7)


@given(weights(), max_shares, st.integers(-6, 6))
def test_mean_ignores_the_scale_of_the_weights(given_weights, c, exponent):
    scaled = {site: weight * 2.0**exponent for site, weight in given_weights.items()}
    assume(sum(scaled.values()) < 1e6)
    torch.testing.assert_close(mean_of(scaled, c)[1], mean_of(given_weights, c)[1], rtol=1e-9, atol=1e-6)


def test_equal_replies_are_their_own_mean():
    updates = {f"s{k}": update(0) for k in range(5)}
    _, mean = mean_of({f"s{k}": 10.0**k for k in range(5)}, 0.3, updates=updates)
    expected = {name: tensor.double() for name, tensor in update(0).items()}
    torch.testing.assert_close(mean, expected, rtol=0, atol=1e-9)


def test_mean_by_hand():
    """c = ½, weights 6 and 1 and 1: t = ½ (t + 2) gives 2, shares ½ ¼ ¼; the mean of 4, 8, 0 is 4."""
    mean = WeightedMean({"b": (1,)}, 0.5)
    for site, weight, value in (("x", 6.0, 4.0), ("y", 1.0, 8.0), ("z", 1.0, 0.0)):
        mean.add(site, {"b": torch.tensor([value])}, weight)
    assert mean.shares() == {"x": 0.5, "y": 0.25, "z": 0.25}
    torch.testing.assert_close(mean.close(), {"b": torch.tensor([4.0], dtype=torch.float64)}, rtol=0, atol=0)


def test_a_vanishing_weight_is_absence():
    present = mean_of({"a": 1.0, "b": 2.0, "c": 1e-9})[1]
    torch.testing.assert_close(present, mean_of({"a": 1.0, "b": 2.0})[1], rtol=0, atol=1e-8)


@pytest.mark.parametrize("c", [1.0, 0.5, 0.25])
def test_memory_does_not_grow_with_the_sites(c):
    mean, held = WeightedMean(SHAPES, c), []
    for k in range(64):
        mean.add(f"site-{k}", update(k), 1.0 + k % 7)
        held.append(tensors_held(mean))
    apart = int(1 / c) if c < 1 else 0
    assert max(held) == len(SHAPES) * (1 + apart)
    mean.close()
    assert tensors_held(mean) == len(SHAPES)


GOOD = {"a": 3.0, "b": 1.0, "c": 7.0}


def spoilt(name: str, tensor: torch.Tensor) -> dict[str, torch.Tensor]:
    return {**update(0), name: tensor}


@pytest.mark.parametrize("c", [1.0, 0.4])
@pytest.mark.parametrize(
    ("site", "tensors", "weight", "words"),
    [
        ("b", update(0), 1.0, "b: a second reply in one round"),
        ("bad", update(0), 0.0, "bad: weight 0.0"),
        ("bad", update(0), -1.0, "bad: weight -1.0"),
        ("bad", update(0), NAN, "bad: weight nan"),
        ("bad", update(0), math.inf, "bad: weight inf"),
        ("bad", {}, 1.0, "bad: unexpected tensor names ['layers.0.q', 'layers.0.v', 'layers.1.scale']"),
        ("bad", spoilt("extra", torch.ones(2)), 1.0, "bad: unexpected tensor names ['extra']"),
        ("bad", spoilt("layers.0.v", torch.ones(4, 2)), 1.0, "bad: layers.0.v of shape (4, 2)"),
        ("bad", spoilt("layers.0.v", torch.ones(1, 4)), 1.0, "bad: layers.0.v of shape (1, 4)"),
        (
            "bad",
            spoilt("layers.1.scale", torch.tensor(NAN)),
            1.0,
            "layers.1.scale of shape () and weighted size nan",
        ),
        ("bad", spoilt("layers.1.scale", torch.tensor(-math.inf)), 1.0, "weighted size inf"),
        ("bad", spoilt("layers.1.scale", torch.tensor(1e6)), 1e3, "weighted size 1e+09"),
    ],
)
def test_a_rejected_site_leaves_no_trace(c, site, tensors, weight, words):
    mean = WeightedMean(SHAPES, c)
    for good in ("a", "b"):
        mean.add(good, update(hash_of(good)), GOOD[good])
    with pytest.raises(FedgramError) as error:
        mean.add(site, tensors, weight)
    assert words in str(error.value)
    mean.add("c", update(hash_of("c")), GOOD["c"])
    assert_same_bits((mean.shares(), mean.close()), mean_of(GOOD, c))


@pytest.mark.parametrize("c", [1.0, 0.5])
def test_a_site_that_claims_more_than_its_part_of_the_room_is_refused_and_nobody_else(c):
    """Without equal parts, 2²⁶ of one site would leave no room for three others of size 1."""
    for claim, weight in ((2.0**26, 1.0), (1.0, 2.0**26), (2.0**24 + 1, 1.0)):
        mean = WeightedMean({"b": ()}, c, sites=4)
        with pytest.raises(
            FedgramError, match=r"(?s)liar: (b .*finite values up to|weight .*at most) 1\.68e\+07"
        ) as refused:
            mean.add("liar", {"b": torch.tensor(claim, dtype=torch.float64)}, weight)
        assert refused.value.where == "liar"
        for site in ("x", "y", "z"):
            mean.add(site, {"b": torch.tensor(2.0**24)}, 1.0)
        torch.testing.assert_close(mean.close()["b"].item(), 2.0**24)


def test_updates_held_apart_count_towards_the_room():
    """Each alone fits. The second is refused when it arrives, not when the round closes without a culprit."""
    mean = WeightedMean({"b": ()}, 0.25)
    mean.add("first", {"b": torch.tensor(3e7)}, 2.0)
    with pytest.raises(FedgramError, match="second: b of shape"):
        mean.add("second", {"b": torch.tensor(1.5e7)}, 1.0)
    assert mean.close()["b"].item() == 3e7


@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "centred_clipping"])
def test_sites_that_share_no_tensor_have_weights_under_every_rule(rule):
    """Those of a method that shares no weights, under a rule that the job's server has for any method."""
    mean = WeightedMean({}, sites=4, combine=combine(rule, 0.25, mixing=True))
    for number, site in enumerate("abcd", start=1):
        mean.add(site, {}, float(number))
    assert mean.shares() == {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}
    assert mean.close() == {}


def test_a_mean_over_no_sites_is_refused():
    with pytest.raises(FedgramError, match="a mean over no sites"):
        WeightedMean(SHAPES).close()


@pytest.mark.parametrize("c", [1.0, 0.5])
def test_a_reply_after_the_deadline_is_refused(c):
    mean = WeightedMean(SHAPES, c)
    mean.add("a", update(1), 1.0)
    closed = mean.close()
    with pytest.raises(FedgramError, match="late: a reply after the round was closed"):
        mean.add("late", update(2), 50.0)
    torch.testing.assert_close(mean.close(), closed, **EXACT)


# --- GramConsensus ---


def consensus_of(sites, slots=6, order=None):
    consensus = GramConsensus(slots)
    for site in order or sites:
        consensus.add(site, *sites[site])
    return consensus.close()


def full(**grams):
    return {site: (gram, tuple(range(len(gram)))) for site, gram in grams.items()}


@given(sites=partial_grams())
def test_consensus_equals_loops(sites):
    expected = reference.consensus(sites, 6).float()
    torch.testing.assert_close(consensus_of(sites), expected, rtol=0, atol=1e-6, equal_nan=True)


@given(sites=partial_grams(), shuffle=st.randoms(use_true_random=False))
def test_consensus_is_the_same_bits_in_any_order_of_arrival(sites, shuffle):
    arrived = consensus_of(sites)
    for _ in range(3):
        order = shuffle.sample(list(sites), len(sites))
        torch.testing.assert_close(consensus_of(sites, order=order), arrived, **EXACT)


@given(sites=partial_grams())
def test_a_pair_that_fewer_than_two_sites_share_has_no_consensus(sites):
    result = consensus_of(sites)
    for i in range(6):
        for j in range(6):
            sharing = sum(i in own and j in own for _, own in sites.values())
            assert result[i, j].isnan().item() == (sharing < 2)


@given(sites=partial_grams(), shuffle=st.randoms(use_true_random=False))
def test_consensus_follows_a_permutation_of_the_anchors(sites, shuffle):
    new = shuffle.sample(range(6), 6)  # slot j becomes slot new[j]
    moved = {}
    for site, (gram, own) in sites.items():
        slots = [new[j] for j in own]
        order = sorted(range(len(own)), key=slots.__getitem__)
        moved[site] = (gram[order][:, order], tuple(sorted(slots)))
    result = consensus_of(moved)[new][:, new]
    torch.testing.assert_close(result, consensus_of(sites), rtol=0, atol=1e-6, equal_nan=True)


@given(sites=partial_grams())
def test_a_site_without_anchors_is_absent(sites):
    with_idle = {**sites, "idle": (torch.ones(0, 0), ())}
    torch.testing.assert_close(consensus_of(with_idle), consensus_of(sites), **EXACT)


def test_sites_that_agree_are_their_own_consensus():
    gram = cosine_gram(normal(0, 6, 4)).float()
    result = consensus_of(full(a=gram, b=gram, c=gram, d=gram))
    torch.testing.assert_close(result, gram, rtol=0, atol=1e-6)


def test_consensus_by_hand():
    """Slots 0 and 1 at two sites with cosines 0.2 and 0.6; slot 2 at one site alone."""
    two = torch.tensor([[1.0, 0.2], [0.2, 1.0]])
    three = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.0, 0.3], [0.1, 0.3, 1.0]])
    result = consensus_of({"a": (two, (0, 1)), "b": (three, (0, 1, 2))}, slots=3)
    expected = torch.tensor([[1.0, 0.4, NAN], [0.4, 1.0, NAN], [NAN, NAN, NAN]])
    torch.testing.assert_close(result, expected, equal_nan=True)


def pair(cosine: float) -> torch.Tensor:
    return torch.tensor([[1.0, cosine], [cosine, 1.0]])


def test_the_mean_by_hand():
    sites = {f"site-{k}": (pair(cosine), (0, 1)) for k, cosine in enumerate([0.1, 0.2, 0.6])}
    torch.testing.assert_close(consensus_of(sites, slots=2), pair(0.3))


def test_consensus_memory():
    consensus = GramConsensus(4)
    held = {tensors_held(consensus)}
    for k in range(64):
        consensus.add(f"site-{k}", cosine_gram(normal(k, 4, 3)), (0, 1, 2, 3))
        held.add(tensors_held(consensus))
    assert held == {2}


def test_no_sites_no_consensus():
    assert consensus_of({}).isnan().all()


@pytest.mark.parametrize(
    ("site", "gram", "slots", "words"),
    [
        ("a", pair(0.5), (0, 1), "a: a second Gram in one round"),
        ("bad", pair(0.5), (-1, 2), "bad: anchor slots (-1, 2)"),
        ("bad", pair(0.5), (1, 6), "ascending, from 0 to 5"),
        ("bad", pair(0.5), (2, 2), "bad: anchor slots (2, 2)"),
        ("bad", pair(0.5), (3, 1), "bad: anchor slots (3, 1)"),
        ("bad", torch.ones(1, 1), (0, 1, 2), "bad: Gram of shape (1, 1)"),
        ("bad", pair(0.5), (0, 1, 2), "expected: 3 square, finite"),
        ("bad", pair(NAN), (0, 1), "bad: Gram of shape (2, 2)"),
        ("bad", pair(math.inf), (0, 1), "bad: Gram of shape (2, 2)"),
    ],
)
def test_a_rejected_gram_leaves_no_trace(site, gram, slots, words):
    good = full(a=cosine_gram(normal(0, 6, 4)), b=cosine_gram(normal(1, 6, 4)))
    consensus = GramConsensus(6)
    consensus.add("a", *good["a"])
    with pytest.raises(FedgramError) as error:
        consensus.add(site, gram, slots)
    assert words in str(error.value)
    consensus.add("b", *good["b"])
    torch.testing.assert_close(consensus.close(), consensus_of(good), **EXACT)


# --- target_gram ---


def test_target_falls_back_to_the_sites_own_entries():
    consensus = torch.full((5, 5), NAN)
    consensus[1, 1] = consensus[3, 3] = 1.0
    consensus[1, 3] = consensus[3, 1] = 0.75
    own = cosine_gram(normal(0, 3, 4))
    target = target_gram(consensus, own, (1, 2, 3))
    expected = own.clone()
    expected[0, 2] = expected[2, 0] = 0.75
    torch.testing.assert_close(target, expected)
    assert target.dtype == own.dtype


@given(partial_grams())
def test_target_is_finite_whatever_the_coverage(sites):
    consensus = consensus_of(sites)
    for gram, own in sites.values():
        target = target_gram(consensus, gram, own)
        block = consensus[list(own)][:, list(own)]
        assert torch.isfinite(target).all()
        torch.testing.assert_close(target[~block.isnan()], block[~block.isnan()], rtol=0, atol=0)
        torch.testing.assert_close(target[block.isnan()], gram[block.isnan()], rtol=0, atol=0)


def test_no_gradient_flows_through_the_target():
    own = cosine_gram(normal(0, 5, 4)).requires_grad_()
    consensus = torch.full((5, 5), NAN)
    consensus[:2, :2] = 1.0
    target = target_gram(consensus, own, (0, 1, 2, 3, 4))
    assert not target.requires_grad
    # Without any consensus the site is at its own target, and nothing pulls.
    (gradient,) = torch.autograd.grad(cka(own, target_gram(torch.full((5, 5), NAN), own, tuple(range(5)))), own)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def test_target_refuses_a_gram_of_other_slots():
    with pytest.raises(FedgramError, match="Gram of shape") as error:
        target_gram(torch.ones(5, 5), torch.ones(1, 1), (0, 1, 2))
    assert "(1, 1)" in error.value.problem
    assert "3 square" in str(error.value)
