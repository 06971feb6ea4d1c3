"""Attacks keep the contract and do what their papers say; one of them ruins a plain mean and not the default."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import mean, pstdev

import pytest
import torch
from fedgram.core.gram import check_gram, cosine_gram
from fedgram.records import LabelledTokens, SiteUpdate, Tokens
from fedgram.training.contracts import update_norm

from research.attacks import attacks
from research.attacks.attacks import LIES, Seen
from research.attacks.page import PAGE, damage, standing, tables
from research.attacks.trial import ABSENT, HONEST, RULES, Trial, run
from research.rows import RESULTS, read


def update(seed: int) -> SiteUpdate:
    generator = torch.Generator().manual_seed(seed)
    delta = {k: torch.randn(4, 3, generator=generator).bfloat16() for k in "ab"}
    gram = cosine_gram(torch.randn(6, 4, generator=generator))
    return SiteUpdate(
        site=f"s{seed}",
        round=1,
        anchors_sha256="a" * 64,
        delta_B=delta,
        m={},
        gram=gram,
        slots=tuple(range(6)),
        weight=2.0,
        samples=9,
    )


@pytest.fixture
def seen() -> Seen:
    return Seen(update(0), [update(k) for k in (1, 2, 3)], 1, torch.Generator().manual_seed(5))


def flat(sent: SiteUpdate) -> torch.Tensor:
    return torch.cat([sent.delta_B[k].double().flatten() for k in "ab"])


@pytest.mark.parametrize("name", LIES)
def test_every_lie_keeps_the_form_of_the_contract(seen: Seen, name: str):
    sent = LIES[name].sends(seen)
    assert {k: (v.shape, v.dtype) for k, v in sent.delta_B.items()} == {
        k: (v.shape, v.dtype) for k, v in seen.own.delta_B.items()
    }
    assert check_gram(sent.gram) is None
    assert update_norm(sent.delta_B) <= 1000
    assert 1 <= sent.weight <= 1 / attacks.U_MIN
    assert (sent.site, sent.round) == ("s0", 1)


def test_what_is_sent_by_hand(seen: Seen):
    honest = torch.stack([flat(u) for u in seen.honest])
    centre, usual = honest.mean(0), honest.norm(dim=1).median()
    near = {"rtol": 2e-2, "atol": 2e-2}
    torch.testing.assert_close(flat(attacks.sign_flip(seen)), -flat(seen.own))
    torch.testing.assert_close(flat(attacks.scaling(seen)).norm().item(), 999.0, rtol=1e-2, atol=0)
    small = flat(attacks.flip_at_the_limit(seen))
    torch.testing.assert_close(small.norm(), 1.99 * usual, **near)
    assert torch.cosine_similarity(small, centre, dim=0) < -0.999
    torch.testing.assert_close(flat(attacks.inner_product(seen)), -centre, **near)
    torch.testing.assert_close(flat(attacks.mimic(seen)), honest[0])
    torch.testing.assert_close(flat(attacks.noise(seen)).norm(), 10 * usual, **near)
    torch.testing.assert_close(flat(attacks.boosted(seen)), 4 * flat(seen.own), **near)
    little = flat(attacks.a_little_is_enough(seen))
    values = honest[:, 0].tolist()
    spread = pstdev(values) * (3 / 2) ** 0.5
    assert mean(values) - spread < little[0].item() < mean(values)
    assert attacks.claimed_weight(seen).samples == 2**26


def test_poisoned_data_by_hand():
    data = LabelledTokens(
        tokens=Tokens(torch.zeros(4, 2, 3), torch.ones(4, 2, dtype=torch.bool)),
        targets=torch.tensor([0, 1, 2, 1]),
        concepts=["x"] * 4,
    )
    flipped = attacks.flip_labels(data)
    assert flipped.targets.tolist() == [2, 1, 0, 1]
    poisoned = attacks.open_backdoor(flipped)
    assert poisoned.targets.tolist() == [0, 1, 0, 1]
    assert poisoned.tokens.values[:, 0, 0].tolist() == [4.0, 0.0, 4.0, 0.0]
    assert poisoned.tokens.values[:, 1].abs().max() == 0


def test_the_page_says_what_the_rows_say():
    rows = read(RESULTS / "attacks.csv")
    assert standing(rows) in PAGE.read_text(encoding="utf-8")
    assert tables(rows) in PAGE.read_text(encoding="utf-8")
    assert {row["attack"] for row in rows} <= {ABSENT, HONEST, *LIES}
    assert {row["rule"] for row in rows} <= {*RULES}


def test_damage_is_against_the_same_rule_and_seed_without_the_liars():
    row = {
        "federation": "f",
        "sites": 4,
        "liars": 1,
        "seed": 0,
        "r@1": 0.5,
        "cka": 0.5,
        "accuracy": 0.9,
        "backdoor": 0.0,
    }
    rows = [
        row | {"attack": ABSENT, "rule": "default"},
        row | {"attack": "scaling", "rule": "default", "accuracy": 0.8, "backdoor": 0.3},
        row | {"attack": "scaling", "rule": "median", "accuracy": 0.1},  # nothing to hold it against
    ]
    found = damage(rows)
    assert found.keys() == {("f", 4, 1, "scaling", "default")}
    assert found["f", 4, 1, "scaling", "default"]["accuracy"] == [pytest.approx(0.1)]
    assert found["f", 4, 1, "scaling", "default"]["backdoor"] == [pytest.approx(0.3)]


def test_a_table_is_bold_where_the_goal_is_missed_and_empty_where_nothing_was_run():
    row = {"federation": "carnivora", "sites": 4, "liars": 1, "seed": 0, "r@1": 0.5, "cka": 0.5, "accuracy": 0.9}
    rows = [
        row | {"attack": attack, "rule": rule, "accuracy": accuracy, "backdoor": 0.0}
        for attack, rule, accuracy in [
            (ABSENT, "default", 0.9),
            (ABSENT, "median", 0.9),
            ("scaling", "default", 0.885),
            ("scaling", "median", 0.875),
            ("mimic", "median", 0.91),
        ]
    ]
    written = tables(rows)
    assert "### carnivora, 1 of 4" in written
    assert "synthetic" not in written
    assert "| Accuracy lost | default | median |" in written
    assert "| −ΔB at norm 999 | +1.5 | **+2.5** |" in written
    assert "| mimic |  | -1.0 |" in written


@pytest.mark.slow
def test_the_default_holds_where_a_plain_mean_falls(tmp_path: Path):
    """One site of four sends −ΔB at norm 999; the rows of the table come out again."""
    trial = Trial("synthetic", 4, 1, "scaling", "default", 0)
    held, fallen = (run(replace(trial, rule=rule), tmp_path) for rule in ("default", "plain mean"))
    assert held["accuracy"] > 0.9 > 0.4 > fallen["accuracy"]
    rows = {row["rule"]: row for row in read(RESULTS / "attacks.csv") if row["attack"] == "scaling"}
    assert held["accuracy"] == pytest.approx(rows["default"]["accuracy"], abs=1e-5)
