"""Rounds and steps from the number of samples, hand-worked."""

from __future__ import annotations

import pytest
from fedgram.results.sizing import advised, sizing


@pytest.mark.parametrize(
    ("samples", "expected"),
    [(16, (10, 2)), (64, (20, 2)), (640, (20, 20)), (6400, (50, 20)), (1, (10, 2))],
)
def test_a_site_sees_its_samples_about_twenty_times(samples: int, expected: tuple[int, int]):
    """Batches of 32, none larger than the site; within 5 … 50 rounds of 2 … 20 steps."""
    assert advised(samples, 32) == expected


def test_the_report_says_how_often_samples_are_seen():
    training = {"rounds": 12, "local_steps": 2, "batch_size": 32}
    facts = {"job": {"training": training}, "rounds": [{"samples": {"x": 16, "y": 96}}]}
    assert sizing(facts) == (
        "Sites have 16 to 96 training samples, and see each 8 to 24 times in 12 rounds of 2 steps; "
        "a first try for so many: 20 rounds of 3 steps."
    )
    assert sizing({"rounds": []}) is None
    assert sizing({"rounds": [{}]}) is None
