"""The server's side of a round: agreement, checks, aggregation, state."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
from fedgram.errors import RoundFailed, UpdateRejected
from fedgram.records import ModelSpec, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.training import contracts, rounds
from fedgram.training.server import Round, ServerState, agree
from toy import Toy


@pytest.fixture(scope="module")
def introductions(toy: Toy) -> list[SiteIntroduction]:
    return [rounds.introduce(toy.open(name)) for name in toy.sites]


@pytest.fixture(scope="module")
def start(toy: Toy, introductions: list[SiteIntroduction]) -> ServerState:
    return agree(introductions, toy.job)[0]


@pytest.fixture(scope="module")
def updates(toy: Toy, start: ServerState) -> list[SiteUpdate]:
    return [rounds.local_round(toy.open(name), start.state) for name in toy.sites]


def finished(toy: Toy, start: ServerState, updates: list[SiteUpdate]) -> ServerState:
    current = Round(start, toy.job, toy.sites)
    for update in updates:
        current.add(update)
    return current.close()


def test_round_zero_starts_from_nothing(start: ServerState):
    assert all(b.abs().max() == 0 for b in start.state.B.values())
    assert start.state.round == 0
    assert not start.state.consensus.isnan().any()  # every pair is shared by at least two sites


@pytest.mark.parametrize(
    "other", [{"backbone": "f" * 64}, {"width": 7}, {"shapes": {"layer": (2, 1, 3)}}], ids=str
)
def test_sites_with_another_model_are_left_out(toy: Toy, introductions: list[SiteIntroduction], other: dict):
    spec = dataclasses.replace(introductions[0].spec, **other)
    odd = dataclasses.replace(introductions[0], spec=spec)
    state, rejected = agree([odd, *introductions[1:]], toy.job)
    assert list(rejected) == ["red"]
    assert "another shared transformer" in rejected["red"]
    assert state.spec == introductions[1].spec
    assert state.refused == ("red",)  # and stays out of every later round


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "0.0.0"}, "fedgram '0.0.0'"),
        ({"anchors_sha256": "0" * 64}, "anchor set '000000000000'"),
        ({"slots": (0, 1)}, "Gram of shape"),
        ({"spec": ModelSpec(shapes={"q": (3, 0, 4)}, backbone="b" * 64, width=4)}, "layer shapes"),
        ({"spec": ModelSpec(shapes={"p": (3, 2, 4), "q": (3, 0, 4)}, backbone="b" * 64, width=4)}, "layer shapes"),
    ],
)
def test_a_bad_introduction_is_left_out(
    toy: Toy, introductions: list[SiteIntroduction], change: dict, reason: str
):
    bad = dataclasses.replace(introductions[0], **change)
    _, rejected = agree([bad, *introductions[1:]], toy.job)
    assert reason in rejected["red"]


def test_too_few_sites_fail_before_the_first_round(toy: Toy, introductions: list[SiteIntroduction]):
    with pytest.raises(RoundFailed, match="1 sites agree"):
        agree(introductions[:1], toy.job)


def test_the_mean_is_the_weighted_mean(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    after = finished(toy, start, updates)
    shares = after.records[-1].shares
    assert sum(shares.values()) == pytest.approx(1)
    assert max(shares.values()) <= 0.5 + 1e-12
    for name, b in after.state.B.items():
        mean = sum(shares[u.site] * u.delta_B[name].double() for u in updates)
        torch.testing.assert_close(b.double(), mean, atol=1e-9, rtol=1e-6)
    for name, m in after.state.m.items():
        mean = sum(shares[u.site] * u.m[name].double() for u in updates)
        torch.testing.assert_close(m.double(), mean, atol=1e-9, rtol=1e-6)


def test_the_order_of_arrival_changes_no_bit(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    results = [finished(toy, start, list(order)).state for order in itertools.permutations(updates)]
    for other in results[1:]:
        assert all(torch.equal(results[0].B[k], other.B[k]) for k in other.B)
        assert all(torch.equal(results[0].m[k], other.m[k]) for k in other.m)
        assert torch.equal(results[0].consensus, other.consensus)


def test_server_momentum_by_hand(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    heavy = toy.with_job(aggregation={"server_momentum": 0.5, "server_learning_rate": 2.0, "clip": 0})
    once = finished(heavy, start, updates)
    again = [dataclasses.replace(u, round=2) for u in updates]
    twice = finished(heavy, once, again)
    plain = finished(toy.with_job(aggregation={"clip": 0}), start, updates).state.B
    for name, mean in plain.items():
        torch.testing.assert_close(once.state.B[name], 2 * mean)
        # v1 = Δ, v2 = Δ/2 + Δ; B = 2 v1 + 2 v2 = 5 Δ
        torch.testing.assert_close(twice.state.B[name], 5 * mean)


def test_the_record_says_who_sent_what(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    current = Round(start, toy.job, toy.sites)
    current.add(updates[0])
    current.add(updates[1])
    record = current.close().records[-1]
    assert record.missing == ("blue",)
    parameters = sum(delta.numel() for delta in updates[0].delta_B.values())
    magnitudes = sum(m.numel() for m in updates[0].m.values())
    assert record.payload_bytes["red"] == 2 * parameters + 4 * magnitudes + 4 * 12 * 12
    squares = sum(delta.double().square().sum().item() for delta in updates[0].delta_B.values())
    assert record.update_norms["red"] == pytest.approx(squares**0.5)
    assert record.mean_update_norm <= max(record.update_norms.values())


def first(update: SiteUpdate) -> str:
    return sorted(update.delta_B)[0]


def with_delta(update: SiteUpdate, tensor: Callable[[torch.Tensor], torch.Tensor]) -> SiteUpdate:
    name = first(update)
    return dataclasses.replace(update, delta_B={**update.delta_B, name: tensor(update.delta_B[name])})


def lopsided(gram: torch.Tensor) -> torch.Tensor:
    gram = gram.clone()
    gram[0, 1] += 0.5
    return gram


def not_cosines(gram: torch.Tensor) -> torch.Tensor:
    gram = gram.clone()
    gram[0, 1] = gram[1, 0] = 1.5
    return gram


def indefinite(gram: torch.Tensor) -> torch.Tensor:
    gram = torch.eye(len(gram))
    gram[0, 1] = gram[1, 0] = gram[1, 2] = gram[2, 1] = 0.9
    gram[0, 2] = gram[2, 0] = -0.9
    return gram


BAD_UPDATES: dict[str, tuple[Callable[[SiteUpdate], SiteUpdate], str]] = {
    "a stale round": (lambda u: dataclasses.replace(u, round=7), "reply to round 7"),
    "an earlier round": (lambda u: dataclasses.replace(u, round=0), "a reply to round 0\n  expected: round 1"),
    "another anchor set": (lambda u: dataclasses.replace(u, anchors_sha256="e" * 64), "anchor set 'eeee"),
    "an earlier anchor set": (
        lambda u: dataclasses.replace(u, anchors_sha256="0" * 64),
        "anchor set '0000",
    ),
    "a later anchor set": (
        lambda u: dataclasses.replace(u, anchors_sha256="g" * 64),
        "anchor set 'gggg",
    ),
    "a missing layer": (
        lambda u: dataclasses.replace(u, delta_B={k: v for k, v in u.delta_B.items() if k != first(u)}),
        "layer names differ",
    ),
    "an extra layer": (
        lambda u: dataclasses.replace(u, delta_B={**u.delta_B, "x": torch.zeros(1)}),
        "layer names differ, among them 'x'",
    ),
    "a wrong shape": (lambda u: with_delta(u, lambda t: t[:-1]), "torch.bfloat16 torch.Size"),
    "a larger shape": (lambda u: with_delta(u, lambda t: torch.cat([t, t])), "torch.bfloat16 torch.Size"),
    "a wrong dtype": (lambda u: with_delta(u, lambda t: t.float()), "torch.float32 torch.Size"),
    "NaN": (lambda u: with_delta(u, lambda t: t * float("nan")), "not finite"),
    "infinity": (lambda u: with_delta(u, lambda t: t + float("inf")), "not finite"),
    "a huge norm": (lambda u: with_delta(u, lambda t: torch.full_like(t, 1e4)), "update of norm"),
    "NaN in m": (
        lambda u: dataclasses.replace(u, m={k: v * float("nan") for k, v in u.m.items()}),
        "m of",
    ),
    "a huge m": (
        lambda u: dataclasses.replace(u, m={k: v + 1e30 for k, v in u.m.items()}),
        "near the base's",
    ),
    "no m": (lambda u: dataclasses.replace(u, m={}), "m: "),
    "a Gram of other size": (lambda u: dataclasses.replace(u, gram=u.gram[:-1, :-1]), "Gram of shape"),
    "an asymmetric Gram": (lambda u: dataclasses.replace(u, gram=lopsided(u.gram)), "not symmetric"),
    "a Gram out of range": (lambda u: dataclasses.replace(u, gram=not_cosines(u.gram)), "outside [-1, 1]"),
    "an indefinite Gram": (lambda u: dataclasses.replace(u, gram=indefinite(u.gram)), "semi-definite"),
    "a scaled Gram": (lambda u: dataclasses.replace(u, gram=2 * u.gram), "unit diagonal"),
    "unknown slots": (lambda u: dataclasses.replace(u, slots=(*u.slots[:-1], 99)), "slots out of range"),
    "the first slot too many": (lambda u: dataclasses.replace(u, slots=(*u.slots[:-1], 12)), "within 0 … 11"),
    "a slot twice": (lambda u: dataclasses.replace(u, slots=(u.slots[0], *u.slots[:-1])), "slots out of range"),
    "slots out of order at the end": (
        lambda u: dataclasses.replace(u, slots=(*u.slots[:-2], u.slots[-1], u.slots[-2])),
        "slots out of range or order",
    ),
    "a slot below 0": (lambda u: dataclasses.replace(u, slots=(-1, *u.slots[1:])), "slots out of range"),
    "a weight below 1": (lambda u: dataclasses.replace(u, weight=0.99), "weight 0.99"),
    "restarts below 0": (lambda u: dataclasses.replace(u, restarts=-1), "-1 restarts"),
    "a weight of 0": (lambda u: dataclasses.replace(u, weight=0.0), "weight 0.0"),
    "a weight beyond the rule": (lambda u: dataclasses.replace(u, weight=101.0), "weight 101.0"),
    "a weight that is NaN": (lambda u: dataclasses.replace(u, weight=float("nan")), "weight nan"),
    "no samples": (lambda u: dataclasses.replace(u, samples=0), "from 0 samples"),
    "a metric nobody asked for": (
        lambda u: dataclasses.replace(u, metrics={**u.metrics, "age_of_patient_7": 61.0}),
        "metrics that the job does not name",
    ),
    "a metric that is NaN": (
        lambda u: dataclasses.replace(u, metrics={"loss": float("nan")}),
        "not a finite number",
    ),
}


@pytest.mark.parametrize("fault", BAD_UPDATES)
def test_a_bad_update_is_refused_by_name_and_leaves_no_trace(
    toy: Toy, start: ServerState, updates: list[SiteUpdate], fault: str
):
    spoil, reason = BAD_UPDATES[fault]
    current = Round(start, toy.job, toy.sites)
    current.add(updates[1])
    with pytest.raises(UpdateRejected, match="red"):
        current.add(spoil(updates[0]))
    current.add(updates[2])
    after = current.close()
    assert reason in after.records[-1].rejected["red"]
    expected = finished(toy, start, updates[1:])
    assert all(torch.equal(after.state.B[k], b) for k, b in expected.state.B.items())
    assert torch.equal(after.state.consensus.nan_to_num(9), expected.state.consensus.nan_to_num(9))


def test_a_second_reply_does_not_count(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    current = Round(start, toy.job, toy.sites)
    current.add(updates[0])
    current.add(updates[1])
    with pytest.raises(UpdateRejected, match="second reply"):
        current.add(updates[0])
    assert current.accepted == ("green", "red")


def test_a_round_needs_min_sites(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    current = Round(start, toy.job, toy.sites)
    current.add(updates[0])
    current.reject("green", "green: answered with DataError")
    with pytest.raises(RoundFailed, match=r"(?s)1 good replies.*at least 2.*green: answered with DataError"):
        current.close()


@pytest.fixture(scope="module")
def evaluation(toy: Toy) -> SiteEvaluation:
    return rounds.evaluation(toy.open("red"))


BAD_EVALUATIONS: dict[str, tuple[Callable[[SiteEvaluation], SiteEvaluation], str]] = {
    "a metric nobody asked for": (lambda e: dataclasses.replace(e, metrics={"age": 61.0}), "does not name"),
    "an infinite metric": (
        lambda e: dataclasses.replace(e, metrics={"loss": float("inf")}),
        "finite number",
    ),
    "a Gram of the training anchors alone": (lambda e: dataclasses.replace(e, gram=e.gram[:12, :12]), "Gram of"),
    "a held-out slot too many": (
        lambda e: dataclasses.replace(e, heldout_slots=(*e.heldout_slots[:-1], 12)),
        "within 0 … 23",
    ),
    "held-out slots out of order": (
        lambda e: dataclasses.replace(e, heldout_slots=e.heldout_slots[::-1]),
        "slots out of range or order",
    ),
}


@pytest.mark.parametrize("fault", BAD_EVALUATIONS)
def test_a_bad_evaluation_is_refused_by_name(toy: Toy, evaluation: SiteEvaluation, fault: str):
    contracts.check_evaluation(evaluation, toy.job)
    spoil, reason = BAD_EVALUATIONS[fault]
    with pytest.raises(UpdateRejected, match=f"(?s)red: .*{reason}"):
        contracts.check_evaluation(spoil(evaluation), toy.job)
