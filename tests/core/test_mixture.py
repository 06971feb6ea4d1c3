"""The choice between home and the rest, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from fedgram.core.mixture import choose, mix_logs, paired, simplex
from fedgram.errors import FedgramError


def test_the_simplex_of_two_and_three_by_hand():
    assert simplex(1, 4).tolist() == [[1.0]]
    assert simplex(2, 4).tolist() == [[1, 0], [0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0, 1]]
    assert simplex(3, 2).tolist() == [[1, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 1, 0], [0, 0.5, 0.5], [0, 0, 1]]
    every = simplex(3, 4)
    assert len(every) == math.comb(6, 2) == len(every.unique(dim=0))
    assert (every.sum(1) == 1).all()
    for wrong in ((0, 4), (2, 0)):
        with pytest.raises(FedgramError, match="1 or more"):
            simplex(*wrong)


def test_a_paired_difference_by_hand():
    """1, 2 and 6: the mean is 3, s = √7, the standard error √(7/3)."""
    mean, error = paired(torch.tensor([1.0, 2.0, 6.0]))
    assert (mean, error) == (3.0, pytest.approx((7 / 3) ** 0.5))
    assert paired(torch.tensor([0.5])) == (0.5, math.inf)
    with pytest.raises(FedgramError, match="G ≥ 1"):
        paired(torch.zeros(0))


@pytest.mark.parametrize(
    ("rows", "chosen"),
    [
        ([[2.0, 2.0], [1.0, 1.0]], 1),  # better by 1 ± 0
        ([[2.0, 2.0], [2.0, 2.0]], 0),  # no better
        ([[2.0, 2.0, 2.0], [1.0, 2.5, 2.2]], 0),  # better by 0.1 ± 0.46
        ([[2.0, 2.0], [1.0, 1.9]], 1),  # better by 0.55 ± 0.45
        ([[2.0, 2.0], [1.0, 2.0]], 0),  # better by 0.5 ± 0.5: not more than one standard error
        ([[2.0, 2.0], [1.5, 1.5], [1.0, 1.2], [0.0, 2.2]], 2),  # least loss among those that count
        ([[2.0], [0.0]], 0),  # one group says nothing
        ([[2.0, 2.0], [math.nan, 0.0], [-math.inf, 0.0]], 0),
        ([[math.nan, 2.0], [math.inf, 0.0], [3.0, 3.0], [1.0, 9.0]], 2),  # home diverged
        ([[math.inf, 2.0], [math.nan, 0.0]], 0),
        ([[2.0, 1.0]], 0),
    ],
)
def test_a_choice_by_hand(rows: list[list[float]], chosen: int):
    assert choose(torch.tensor(rows)) == chosen


@pytest.mark.parametrize("shape", [(3,), (0, 3)])
def test_a_choice_needs_candidates(shape: tuple[int, ...]):
    with pytest.raises(FedgramError, match=r"\(S, G\)"):
        choose(torch.zeros(shape))


def test_noise_alone_seldom_leaves_home():
    """A candidate as good as home: one in six is better by a standard error, as the normal distribution has it."""
    generator = torch.Generator().manual_seed(0)
    left = sum(choose(torch.randn(2, 40, generator=generator)) == 1 for _ in range(2000)) / 2000
    assert left == pytest.approx(0.16, abs=0.03)


def test_logs_are_mixed_as_what_they_are_the_logarithm_of():
    a, b = torch.tensor([0.5, 0.25]), torch.tensor([0.1, 0.75])
    torch.testing.assert_close(mix_logs([a.log(), b.log()], [0.25, 0.75]).exp(), 0.25 * a + 0.75 * b)
    far = mix_logs([torch.tensor([-1000.0]), torch.tensor([-2000.0])], [0.5, 0.5])
    torch.testing.assert_close(far, torch.tensor([-1000.0 - math.log(2)]))
