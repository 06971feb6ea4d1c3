"""The directory of concepts by hand."""

from __future__ import annotations

import pytest
import torch
from fedgram.core.directory import at_slots, is_name, likeness, merge, prototypes
from fedgram.core.relative import anchor_coordinates, cross_similarity
from fedgram.errors import FedgramError

NAN = float("nan")


def test_prototypes_are_means_of_concepts_with_enough_samples():
    coordinates = torch.tensor([[1.0, -1.0], [3.0, -3.0], [0.5, -0.5], [9.0, -9.0], [7.0, -7.0]])
    found = prototypes(coordinates, ["b", "b", "a", "", ""], least=2)
    assert {name: values.tolist() for name, values in found.items()} == {"b": [2.0, -2.0]}
    assert list(prototypes(coordinates, ["b", "b", "a", "a", "b"], least=2)) == ["a", "b"]
    assert prototypes(coordinates, ["b"] * 5) == {}  # fewer than ten
    assert list(prototypes(torch.zeros(19, 2), ["ten"] * 10 + ["nine"] * 9)) == ["ten"]


def test_at_most_a_thousand_concepts_are_published():
    names = [f"{i:04d}" for i in range(1001)]
    assert list(prototypes(torch.zeros(1001, 2), names, least=1)) == names[:1000]


@pytest.mark.parametrize(
    ("name", "good"),
    [("Bär", True), ("a/b c", True), ("", False), ("x" * 200, True), ("x" * 201, False), ("a\nb", False)],
)
def test_a_name(name: str, good: bool):
    assert is_name(name) is good


def test_a_merge_with_partial_coverage_by_hand():
    """One has slots 0 and 1, two have 1 and 3 (of 4): slot 1 is a mean, slot 2 nobody's."""
    published = {
        "two": ({"oak": torch.tensor([4.0, 8.0])}, (1, 3)),
        "one": ({"oak": torch.tensor([1.0, 2.0]), "rye": torch.tensor([0.5, -0.5])}, (0, 1)),
    }
    found = merge(published, 4)
    assert list(found) == ["oak", "rye"]
    assert found["oak"].nan_to_num(-1).tolist() == [1.0, 3.0, -1.0, 8.0]
    assert found["rye"].nan_to_num(-1).tolist() == [0.5, -0.5, -1.0, -1.0]
    assert found["oak"].dtype == torch.float32
    again = merge(dict(reversed(published.items())), 4)
    assert all(torch.equal(values.nan_to_num(9), again[name].nan_to_num(9)) for name, values in found.items())
    assert merge({}, 4) == {}


def test_what_cannot_be_compared_is_left_out():
    directory = {"a": torch.tensor([1.0, NAN, 2.0]), "b": torch.tensor([NAN, 1.0, NAN])}
    assert {name: values.tolist() for name, values in at_slots(directory, (0, 2)).items()} == {"a": [1.0, 2.0]}
    assert at_slots(directory, (1, 2)) == {}


def test_a_cosine_is_taken_over_the_slots_that_both_have():
    """As if anchors that one of them lacks did not exist for either."""
    z, others, anchors = torch.randn(5, 8), torch.randn(12, 8), torch.randn(6, 8)
    here, there = [0, 1, 2, 3, 5], [0, 2, 3, 4, 5]
    common = [0, 2, 3, 5]
    prototype = anchor_coordinates(others, anchors[there]).mean(0, keepdim=True)[0]
    directory = at_slots(merge({"one": ({"oak": prototype}, there)}, 6), here)
    found = likeness(anchor_coordinates(z, anchors[here]), list(directory.values()))
    taught = anchor_coordinates(others, anchors[common]).mean(0, keepdim=True)
    torch.testing.assert_close(found, cross_similarity(anchor_coordinates(z, anchors[common]), taught))


def test_a_prototype_needs_two_values():
    with pytest.raises(FedgramError, match="1 values"):
        likeness(torch.zeros(1, 2), [torch.tensor([1.0, NAN])])
