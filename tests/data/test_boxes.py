"""GenEval's rule for where one box is from another."""

from __future__ import annotations

import pytest
from fedgram.data.boxes import OPPOSITE, only_relation, relations
from hypothesis import given
from hypothesis import strategies as st

BOX = st.tuples(*[st.integers(0, 20)] * 2, *[st.integers(1, 20)] * 2).map(
    lambda v: (float(v[0]), float(v[1]), float(v[0] + v[2]), float(v[1] + v[3]))
)
SQUARE = (0.0, 0.0, 10.0, 10.0)


def shifted(dx: float, dy: float):
    return (dx, dy, 10.0 + dx, 10.0 + dy)


@pytest.mark.parametrize(
    ("dx", "dy", "expected"),
    [
        (20, 0, {"right of"}),
        (-20, 0, {"left of"}),
        (0, -20, {"above"}),
        (0, 20, {"below"}),
        (2, 0, set()),  # a tenth of 10 + 10: just within the margin
        (4.1, 0, {"right of"}),  # (4.1 - 2) / 4.1 is more than half
        (3.9, 0, set()),  # (3.9 - 2) / 3.9 is not
        (20, 20, {"right of", "below"}),  # 18 / 28.3 both ways
        (20, 11, {"right of"}),  # 9 / 22.8 downwards
    ],
)
def test_worked_by_hand(dx, dy, expected):
    assert relations(shifted(dx, dy), SQUARE) == expected


def test_the_same_box_is_nowhere():
    assert relations(SQUARE, SQUARE) == frozenset()


@given(BOX, BOX)
def test_exchanged_boxes_have_the_opposite_relations(a, b):
    assert {OPPOSITE[name] for name in relations(a, b)} == relations(b, a)


def test_only_relation_is_none_on_the_diagonal():
    assert only_relation(shifted(20, 0), SQUARE) == "right of"
    assert only_relation(shifted(20, 20), SQUARE) is None
    assert only_relation(SQUARE, SQUARE) is None
