"""Splits by group: disjoint, stratified, and the same whatever the order or the process."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from fedgram.data.splits import PARTS, split
from fedgram.errors import DataError
from fedgram.records import Sample
from hypothesis import given
from hypothesis import strategies as st


def _samples(groups: dict[str, str], each: int = 2) -> list[Sample]:
    return [
        Sample(id=f"{g}-{i}", concept=c, group=g, content=None) for g, c in groups.items() for i in range(each)
    ]


groupings = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=3), st.sampled_from("XYZ"), min_size=1)


@given(groupings, st.randoms(use_true_random=False))
def test_partition_by_group_and_independent_of_order(groups, random):
    samples = _samples(groups)
    parts = split(samples)
    assert sorted(s.id for part in parts.values() for s in part) == sorted(s.id for s in samples)
    sides = [{s.group for s in part} for part in parts.values()]
    assert sum(map(len, sides)) == len(set().union(*sides))
    assert {s.concept for s in parts["train"]} == set(groups.values())
    shuffled = random.sample(samples, len(samples))
    again = split(shuffled)
    assert {p: {s.id for s in again[p]} for p in PARTS} == {p: {s.id for s in parts[p]} for p in PARTS}


@pytest.mark.parametrize(
    ("groups", "sizes"), [(1, (1, 0, 0)), (2, (1, 0, 1)), (4, (3, 0, 1)), (5, (3, 1, 1)), (20, (14, 2, 4))]
)
def test_sizes(groups, sizes):
    parts = split(_samples({f"g{i}": "X" for i in range(groups)}, each=1))
    assert tuple(len(parts[p]) for p in PARTS) == sizes


def test_every_concept_is_tested():
    parts = split(_samples({f"{c}{i}": c for c in "XYZ" for i in range(10)}))
    assert all(sum(s.concept == c for s in parts["test"]) == 4 for c in "XYZ")


def test_golden_and_seed():
    samples = _samples({f"g{i}": "X" for i in range(5)}, each=1)
    assert [s.id for s in split(samples)["train"]] == ["g1-0", "g3-0", "g4-0"]  # in every process
    assert any(split(samples, seed=n) != split(samples) for n in range(1, 6))


def test_mixed_group_counts_under_its_most_frequent_concept():
    samples = [*_samples({f"x{i}": "X" for i in range(9)}), Sample(id="r", concept="Y", group="x0", content=None)]
    for seed in range(40):
        try:
            parts = split(samples, seed=seed)
        except DataError as error:
            assert "no training sample of 'Y'" in str(error)  # noqa: PT017
            return
        assert "r" in {s.id for s in parts["train"]}
    pytest.fail("the one group with Y was always in training")


def _with(targets: list, groups: list[str] | None = None, splits: list[str] | None = None) -> list[Sample]:
    names, parts = groups or [f"g{i}" for i in range(len(targets))], splits or [""] * len(targets)
    rows = enumerate(zip(targets, names, parts, strict=True))
    return [
        Sample(id=str(i), concept="", group=g, content=None, target=t, split=part, source=f"rows.csv, row {i + 1}")
        for i, (t, g, part) in rows
    ]


def test_numbers_are_stratified_by_quarter():
    parts = split(_with([float(i % 40) for i in range(160)]))
    for part, each in (("train", 28), ("validation", 4), ("test", 8)):
        quarters = [int(s.target // 10) for s in parts[part]]
        assert [quarters.count(q) for q in range(4)] == [each] * 4


def test_the_rarest_label_of_a_sample_decides():
    """All of 60 have the common label, each sixth a rare one as well: by chance the test might have none."""
    samples = _with([("common", "rare") if i % 6 == 0 else ("common",) for i in range(60)] + [()] * 10)
    parts = split(samples)
    assert [sum("rare" in s.target for s in parts[part]) for part in PARTS] == [7, 1, 2]
    assert [sum(s.target == () for s in parts[part]) for part in PARTS] == [7, 1, 2]


def test_masks_are_stratified_by_concept():
    samples = _samples({f"{c}{i}": c for c in "XY" for i in range(5)})
    parts = split([dataclasses.replace(s, target=Path("mask.png")) for s in samples])
    assert Counter(s.concept for s in parts["test"]) == {"X": 2, "Y": 2}


def test_the_split_of_the_data_is_kept():
    samples = _with(list("abab"), splits=["train", "train", "test", "test"])
    parts = split(samples)
    assert [[s.id for s in parts[p]] for p in PARTS] == [["0", "1"], [], ["2", "3"]]


@pytest.mark.parametrize(
    ("targets", "groups", "splits", "message"),
    [
        (
            "aab",
            "xyx",
            ["train", "train", "test"],
            r"row 1 and rows\.csv, row 3: one group is in train and in test",
        ),
        ("aab", "xyz", ["train", "train", "test"], "no training sample of 'b'"),
        ([1.0, 2.0], "xy", ["validation", "test"], "no training sample"),
    ],
)
def test_a_split_that_cannot_be_kept(targets, groups, splits, message):
    with pytest.raises(DataError, match=message):
        split(_with(list(targets), list(groups), splits))
