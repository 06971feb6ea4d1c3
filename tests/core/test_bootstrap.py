"""The bootstrap over groups, against draws one at a time and a case that is known."""

from __future__ import annotations

import math

import pytest
import torch
from fedgram.core.bootstrap import DRAWS, by_group, interval, resampled
from fedgram.errors import FedgramError


def test_sums_are_those_of_groups_drawn_one_at_a_time():
    parts = torch.arange(12.0).reshape(4, 3)
    drawn = torch.randint(4, (DRAWS, 4), generator=torch.Generator().manual_seed(3))
    expected = torch.stack([sum(parts[i] for i in row) for row in drawn.tolist()])
    torch.testing.assert_close(resampled(parts, seed=3), expected.double())


def test_the_interval_of_many_alike_groups_is_that_of_a_binomial():
    """200 groups of one answer, 60 % right: 0.6 ± 1.96 · √(0.24 / 200)."""
    right = torch.tensor([1.0] * 120 + [0.0] * 80)
    low, high = interval(resampled(right) / 200)
    half = 1.96 * math.sqrt(0.24 / 200)
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.01)


def test_groups_are_summed_in_the_order_in_which_they_appear():
    sums = by_group(torch.tensor([[1.0, 1], [2, 1], [4, 1]]), ["b", "a", "b"])
    assert sums.tolist() == [[5, 2], [2, 1]]


def test_nothing_has_no_interval():
    assert interval(torch.tensor([math.nan])) is None
    with pytest.raises(FedgramError, match="no group"):
        resampled(torch.zeros(0))
