"""The audit's bound against hand-worked values, a small audit, and the page of the study from its rows."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from fedgram.records import LabelledTokens, Tokens

from research.blocks import filled
from research.privacy import audit
from research.privacy.__main__ import TABLE, trials
from research.privacy.audit import Audit, Watch, lower_bound, run
from research.privacy.page import PAGE, audits, prices
from research.privacy.trial import LINES
from research.rows import read


def test_the_lower_bound_by_hand():
    """Without δ, n right guesses of n are what ε gives with probability (1 + e^-ε)^-n."""
    for n in (10, 100):
        truth = 0.05 ** (1 / n)
        assert lower_bound(n, n, n, 0.0) == pytest.approx(math.log(truth / (1 - truth)), abs=1e-3)
    assert lower_bound(100, 100, 50, 0.0) == 0.0
    bounds = [lower_bound(1000, 100, right, 1e-5) for right in (60, 75, 90, 100)]
    assert bounds == sorted(bounds)
    assert lower_bound(1000, 100, 90, 1e-3) < bounds[2] < lower_bound(1000, 100, 90, 0.0)


def test_without_noise_the_coins_are_seen_exactly():
    gradients, coins = torch.randn(6, 40, dtype=torch.float64), torch.tensor([1.0, 0, 0, 1, 1, 0]).double()
    none = LabelledTokens(tokens=Tokens(torch.zeros(6, 1, 1), torch.ones(6, 1).bool()), targets=coins, concepts=())
    watch = Watch(none)
    for part in gradients.split(20, dim=1):
        watch.add(part, coins @ part)

    class Silent:
        multiplier, clip = 0.0, 1.0

    torch.testing.assert_close(watch.estimate(Silent) + 0.5, coins)


@pytest.mark.slow
def test_an_audit_finds_noise_that_is_missing_and_no_fault_where_it_is_there(tmp_path: Path):
    kept = run(Audit(epsilon=1.0, noise=1, canaries=120, seed=0), tmp_path)
    broken = run(Audit(epsilon=1.0, noise=0, canaries=120, seed=0), tmp_path)
    assert kept["lower bound"] <= 1.0
    assert broken["right"] == broken["guesses"]
    assert broken["lower bound"] > 1.0


def test_the_page_is_that_of_the_rows():
    text = PAGE.read_text(encoding="utf-8")
    written = filled(text, "privacy: table", prices(read(TABLE)))
    assert filled(written, "privacy: audit", audits(read(audit.TABLE))) == text


def test_no_promise_is_ever_found_broken_but_where_it_is():
    for row in read(audit.TABLE):
        assert (row["lower bound"] > row["epsilon"]) == (row["noise"] == 0)


def test_the_grid():
    grid = [*trials()]
    assert len(grid) == len(set(grid)) == 2 * 3 * len(LINES)
