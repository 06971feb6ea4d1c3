"""VQA's accuracy: cases worked by hand from the published protocol."""

from __future__ import annotations

from itertools import combinations

import pytest
from fedgram.errors import DataError
from fedgram.scoring.vqa_score import normalise, soft_accuracy
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Cat", "cat"),
        ("a cat and an owl", "cat and owl"),
        ("Two", "2"),
        ("none", "0"),
        ("eleven", "eleven"),
        ("dont know", "don't know"),
        ("couldnt've", "couldn't've"),
        ("couldn'tve", "couldn't've"),
        ("couldntve", "couldntve"),  # two apostrophes are missing: the table has it not
        ("somebody'd", "somebodyd"),  # as published
        ("shes", "shes"),  # the table maps "she's" to itself
        ("im", "im"),  # the table has "Im", which is looked up in lower case
        ("yes.", "yes"),
        ("3.5", "3.5"),
        ("3.", "3"),
        ("u.s.a.", "usa"),
        ("black/white", "black white"),  # no space beside it: becomes one
        ("black / white", "black white"),  # a space beside it: goes, and words stay apart
        ("red, white", "red white"),
        ("red,white", "red white"),
        ("1,000", "1000"),
        ("1,000-2", "10002"),  # a comma within a number takes all punctuation with it
        ("well-known", "well known"),
        ("well-known -", "wellknown"),  # one dash beside a space decides for all dashes
        ("it's", "it's"),
        ("10:30", "10:30"),  # colons are left alone
        (" a  b ", "b"),
        ("", ""),
    ],
)
def test_normalisation_worked_by_hand(answer, expected):
    assert normalise(answer) == expected


def test_only_thirty_two_points_go():
    """The published call hands a flag, re.UNICODE = 32, to the number of replacements."""
    assert normalise("." * 33 + "x") == ".x"


@pytest.mark.parametrize(
    ("agreeing", "expected"),
    # k of 10 agree: k people leave out one of them, 10 - k do not.
    [
        (0, 0.0),
        (1, (1 * 0 + 9 * 1 / 3) / 10),  # 0.3
        (2, (2 * 1 / 3 + 8 * 2 / 3) / 10),  # 0.6
        (3, (3 * 2 / 3 + 7 * 1) / 10),  # 0.9
        (4, 1.0),
        (10, 1.0),
    ],
)
def test_ten_people(agreeing, expected):
    assert soft_accuracy("red", ["red"] * agreeing + ["blue"] * (10 - agreeing)) == pytest.approx(expected)


def test_answers_are_normalised_where_people_differ():
    assert soft_accuracy("two", ["2"] * 5 + ["two dogs"] * 5) == 1.0
    assert soft_accuracy("The 2.", ["two"] * 9 + ["3"]) == 1.0


def test_unanimous_answers_are_compared_to_the_letter():
    assert soft_accuracy("two", ["2"] * 10) == 0.0
    assert soft_accuracy("Yes", ["yes"] * 10) == 0.0
    assert soft_accuracy(" yes\n", ["yes"] * 10) == 1.0


def test_few_answers_never_give_one():
    assert soft_accuracy("yes", ["yes"]) == 0.0
    assert soft_accuracy("yes", ["yes"] * 3) == pytest.approx(2 / 3)


@given(st.sampled_from("abc"), st.lists(st.sampled_from("abc"), min_size=2, max_size=10))
def test_mean_over_all_subsets_that_leave_one_out(prediction, answers):
    """Letters have no normal form other than themselves, except the article: as words they keep apart."""
    words = [letter * 2 for letter in answers]
    subsets = list(combinations(words, len(words) - 1))
    slow = sum(min(1.0, subset.count(prediction * 2) / 3) for subset in subsets) / len(subsets)
    assert soft_accuracy(prediction * 2, words) == pytest.approx(slow)


@given(st.permutations(["red", "Red", "a red", "blue", "red.", "reddish", "red"]))
def test_order_does_not_matter(answers):
    assert soft_accuracy("red", answers) == 1.0


def test_no_answers_are_refused():
    with pytest.raises(DataError, match="no answers"):
        soft_accuracy("yes", [])
