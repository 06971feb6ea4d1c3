"""One lying site of four: its reply is bounded or refused by name, the others count; a resumed run has it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.core.cka import cka
from fedgram.core.uncertainty import U_MIN
from fedgram.errors import UpdateRejected
from fedgram.records import SiteIntroduction, SiteUpdate
from fedgram.training import rounds
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.contracts import update_norm
from fedgram.training.server import Round, ServerState, agree
from toy import Toy

SITES = ("red", "green", "blue", "grey")
OFF = {"clip": 0.0}


@pytest.fixture(scope="module")
def introductions(toy: Toy) -> list[SiteIntroduction]:
    found = [rounds.introduce(toy.open(name)) for name in toy.sites]
    return [*found, replace(found[0], site="grey")]


@pytest.fixture(scope="module")
def start(toy: Toy, introductions: list[SiteIntroduction]) -> ServerState:
    return agree(introductions, toy.job)[0]


@pytest.fixture(scope="module")
def updates(toy: Toy, start: ServerState) -> list[SiteUpdate]:
    found = [rounds.local_round(toy.open(name), start.state) for name in toy.sites]
    return [*found, replace(found[1], site="grey")]


def closed(toy: Toy, before: ServerState, replies: list[SiteUpdate]) -> ServerState:
    current = Round(before, toy.job, SITES)
    for reply in replies:
        current.add(reply)
    return current.close()


def later(updates: list[SiteUpdate], round: int = 2) -> list[SiteUpdate]:
    return [replace(update, round=round) for update in updates]


def lying(updates: list[SiteUpdate], **lie: object) -> list[SiteUpdate]:
    return [*updates[:3], replace(updates[3], **lie)]


def times(update: SiteUpdate, norm: float) -> dict[str, torch.Tensor]:
    """The opposite of ΔB at a norm."""
    return {k: (-v * (norm / update_norm(update.delta_B))).to(v.dtype) for k, v in update.delta_B.items()}


def moved(before: ServerState, after: ServerState) -> dict[str, torch.Tensor]:
    return {k: b - before.state.B[k] for k, b in after.state.B.items()}


def distance(one: ServerState, other: ServerState) -> float:
    return update_norm({k: b - other.state.B[k] for k, b in one.state.B.items()})


def test_an_update_at_the_largest_norm_counts_at_most_twice_the_usual(
    toy: Toy, start: ServerState, updates: list[SiteUpdate]
):
    first = closed(toy, start, updates)
    usual = first.past["update"][0]
    forged = lying(later(updates), delta_B=times(updates[3], 999.0))
    after = closed(toy, first, forged)
    assert distance(after, closed(toy, first, later(updates))) <= 3 * usual  # of which it holds a share below 1
    assert after.records[-1].shortened["grey"] == pytest.approx(2 * usual / 999.0, rel=1e-2)
    assert after.records[-1].update_norms["grey"] > 900
    free = toy.with_job(aggregation=OFF)
    assert distance(closed(free, first, forged), closed(free, first, later(updates))) > 100


def test_in_the_first_round_nobody_goes_further_than_adamw_can(
    toy: Toy, start: ServerState, updates: list[SiteUpdate]
):
    settings, numbers = toy.job.training, sum(v.numel() for v in updates[0].delta_B.values())
    furthest = settings.learning_rate * settings.local_steps * numbers**0.5
    assert all(update_norm(update.delta_B) < furthest for update in updates)
    after = closed(toy, start, lying(updates, delta_B=times(updates[3], 999.0)))
    assert update_norm(moved(start, after)) < furthest


def test_no_claim_of_weight_or_samples_counts_more_than_twice_the_usual(toy: Toy, start: ServerState, updates):
    claim = closed(toy, start, lying(updates, weight=1 / U_MIN))
    shares = claim.records[-1].shares
    assert shares["grey"] <= 0.4
    free = toy.with_job(aggregation={"clip": 0.0, "max_share": 1.0})
    assert closed(free, start, lying(updates, weight=1 / U_MIN)).records[-1].shares["grey"] > 0.42
    counted = toy.with_job(aggregation={"weights": "samples"})
    many = [replace(update, weight=64.0, samples=64) for update in updates]

    weighed = replace(start, past={**start.past, "weight": (64.0,)})
    after = closed(counted, weighed, lying(many, weight=2.0**26, samples=2**26))
    assert after.records[-1].rejected == {}
    assert after.records[-1].shares["grey"] == pytest.approx(2 / 5)


@pytest.mark.parametrize("lie", [lambda m: -m, lambda m: m * 0 + 6e5, lambda m: 9 * m], ids=["-m", "6e5", "9 m"])
def test_m_far_from_the_base_is_refused_by_name_and_nobody_else(
    toy: Toy, start: ServerState, updates: list[SiteUpdate], lie: Callable[[torch.Tensor], torch.Tensor]
):
    current = Round(start, toy.job, SITES)
    with pytest.raises(UpdateRejected, match=r"(?s)grey: m of .* near the base's"):
        current.add(replace(updates[3], m={k: lie(m) for k, m in updates[3].m.items()}))
    for update in updates[:3]:
        current.add(update)
    after, expected = current.close(), closed(toy, start, updates[:3])
    assert list(after.records[-1].rejected) == ["grey"]
    assert all(torch.equal(m, expected.state.m[k]) for k, m in after.state.m.items())


def test_m_within_the_range_moves_at_most_twice_the_usual(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    first = closed(toy, start, updates)
    wide = {k: 5 * m for k, m in start.magnitudes.items()}
    after = closed(toy, first, lying(later(updates), m=wide))
    away = update_norm({k: m - first.state.m[k] for k, m in after.state.m.items()})
    assert away < 4 * first.past["m"][0]
    assert "grey" in after.records[-1].shortened


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: {k: v - 2 * v for k, v in m.items()},
        lambda m: dict([*m.items()][1:]),
        lambda m: {k: v.double() for k, v in m.items()},
    ],
    ids=["negative", "a layer less", "float64"],
)
def test_a_site_that_says_another_m_of_the_base_is_left_out(toy: Toy, introductions, spoil):
    odd = replace(introductions[0], m=spoil(introductions[0].m))
    state, rejected = agree([odd, *introductions[1:]], toy.job)
    assert list(rejected) == ["red"]
    assert state.refused == ("red",)
    assert all(torch.equal(m, introductions[1].m[k]) for k, m in state.magnitudes.items())


def rank_one(size: int) -> torch.Tensor:
    signs = 1.0 - 2.0 * (torch.arange(size) % 2)
    return torch.outer(signs, signs)


def test_a_valid_gram_that_misleads_hardly_moves_the_consensus(
    toy: Toy, start: ServerState, introductions, updates: list[SiteUpdate]
):
    honest = closed(toy, start, updates[:3]).state.consensus.double()
    forged = lying(updates, gram=rank_one(len(updates[3].slots)))
    kept = {}
    for name, settings in {"default": {}, "median": {"consensus": "median"}, "off": OFF}.items():
        found = closed(toy.with_job(aggregation=settings), start, forged).state.consensus.double()
        kept[name] = cka(found, honest).item()
    assert kept["off"] < kept["default"]
    assert kept["default"] > 0.95
    assert kept["median"] > 0.95
    lie = replace(introductions[3], gram=rank_one(len(introductions[3].slots)))
    first = agree([*introductions[:3], lie], toy.job)[0].state.consensus.double()
    assert cka(first, start.state.consensus.double()).item() > 0.8  # round 0 too


def test_a_site_that_did_not_introduce_itself_is_refused(toy: Toy, start: ServerState, updates: list[SiteUpdate]):
    current = Round(start, toy.job, (*SITES, "stranger"))
    with pytest.raises(UpdateRejected, match="stranger: a site that did not introduce itself"):
        current.add(replace(updates[0], site="stranger"))
    for update in updates:
        current.add(update)
    assert list(current.close().records[-1].rejected) == ["stranger"]


@pytest.mark.parametrize(
    "settings", [{}, {"rule": "trimmed_mean", "mixing": True, "consensus": "median"}], ids=str
)
def test_bounds_and_rules_are_the_same_bits_in_any_order(
    toy: Toy, start: ServerState, updates: list[SiteUpdate], settings: dict
):
    run = toy.with_job(aggregation=settings)
    first = closed(run, start, updates)
    forged = lying(later(updates), delta_B=times(updates[3], 999.0), gram=rank_one(len(updates[3].slots)))
    found = [closed(run, first, list(order)) for order in itertools.permutations(forged)][::7]
    for other in found[1:]:
        assert all(torch.equal(b, other.state.B[k]) for k, b in found[0].state.B.items())
        assert all(torch.equal(m, other.state.m[k]) for k, m in found[0].state.m.items())
        assert torch.equal(found[0].state.consensus, other.state.consensus)
        assert found[0].past == other.past


def test_what_is_usual_survives_a_resume_to_the_last_bit(
    toy: Toy, start: ServerState, updates: list[SiteUpdate], tmp_path: Path
):
    first = closed(toy, start, updates)
    Checkpoint(tmp_path, toy.job).save(first)
    resumed = Checkpoint(tmp_path, toy.job).load()
    assert resumed is not None
    assert resumed.past == first.past
    assert first.past.keys() == {"gram", "m", "update", "weight"}
    forged = lying(later(updates), delta_B=times(updates[3], 50.0))
    one, other = closed(toy, first, forged), closed(toy, resumed, forged)
    assert all(torch.equal(b, other.state.B[k]) for k, b in one.state.B.items())
