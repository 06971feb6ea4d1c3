"""The numbers of the report, against values worked by hand."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
import torch
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.core.gram import cosine_gram
from fedgram.records import SiteEvaluation
from fedgram.results.alignment import alignments, heldout_retrieval, mean_average_precision, precision_at_1

CONCEPTS = ("a", "a", "a", "b", "b", "b", "c", "c", "c")
JOB = JobConfig(anchors=AnchorPin("0" * 64, CONCEPTS), heldout=AnchorPin("1" * 64, CONCEPTS))


def evaluation(site: str, rotation_seed: int, noise: float, shuffle: bool = False) -> SiteEvaluation:
    """A site whose 9 + 9 anchors lie around three hidden directions, in a space rotated as it pleases."""
    hidden = torch.eye(3, 16).double()
    rows = torch.tensor([CONCEPTS.index(c) // 3 for c in (*CONCEPTS, *CONCEPTS)])
    own = torch.Generator().manual_seed(rotation_seed)
    z = hidden[rows] + noise * torch.randn(18, 16, generator=own, dtype=torch.float64)
    if shuffle:
        z[9:] = z[9:][torch.randperm(9, generator=own)]
    rotation = torch.linalg.qr(torch.randn(16, 16, generator=own, dtype=torch.float64)).Q
    return SiteEvaluation(
        site=site,
        metrics={"accuracy": 1.0},
        gram=cosine_gram(z @ rotation),
        slots=tuple(range(9)),
        heldout_slots=tuple(range(9)),
    )


def test_precision_at_1_by_hand():
    similarity = torch.tensor([[0.9, 0.1, 0.2], [0.3, 0.2, 0.8], [0.5, 0.6, 0.1]])
    hits, chance = precision_at_1(similarity, ["a", "b", "x"], ["a", "b", "a"])
    assert hits == 0.5  # the first is right, the second wrong, nobody could answer the third
    assert chance == pytest.approx((2 / 3 + 1 / 3) / 2)
    assert all(math.isnan(v) for v in precision_at_1(similarity, ["x"] * 3, ["a", "b", "a"]))


def test_mean_average_precision_by_hand():
    similarity = torch.tensor([[0.9, 0.8, 0.7, 0.1]])
    # relevant at ranks 1 and 3: (1/1 + 2/3) / 2
    assert mean_average_precision(similarity, ["a"], ["a", "b", "a", "c"]) == pytest.approx((1 + 2 / 3) / 2)
    assert math.isnan(mean_average_precision(similarity, ["x"], ["a", "b", "a", "c"]))


def test_the_same_geometry_in_other_coordinates_is_aligned():
    pair = alignments({"x": evaluation("x", 1, 0.05), "y": evaluation("y", 2, 0.05)}, JOB)[0]
    assert pair.sites == ("x", "y")
    assert pair.anchors == 9
    assert pair.cka > 0.9
    assert pair.retrieval == 1.0
    assert pair.retrieval_chance == pytest.approx(1 / 3)
    assert pair.knn_chance == pytest.approx(5 / 8)


def test_shuffled_heldout_anchors_are_not():
    pairs = [
        alignments({"x": evaluation("x", s, 0.05), "y": evaluation("y", 100 + s, 0.05, shuffle=True)}, JOB)[0]
        for s in range(12)
    ]
    assert abs(sum(p.cka for p in pairs) / 12) < 0.25
    assert abs(sum(p.retrieval for p in pairs) / 12 - 1 / 3) < 0.2


def test_only_slots_that_both_cover_are_compared():
    x, y = evaluation("x", 1, 0.05), evaluation("y", 2, 0.05)
    keep = torch.tensor([0, 1, 2, 3, 4, 5, *range(9, 15)])  # y covers neither anchors of c
    partial = dataclasses.replace(
        y, gram=y.gram[keep[:, None], keep[None, :]], slots=(0, 1, 2, 3, 4, 5), heldout_slots=(0, 1, 2, 3, 4, 5)
    )
    pair = alignments({"x": x, "y": partial}, JOB)[0]
    assert pair.anchors == 6
    hits, chance = heldout_retrieval(x, partial, CONCEPTS)
    assert (hits, chance) == (1.0, 0.5)  # the three queries of c are not counted: nothing could answer them


def test_what_two_sites_cannot_retrieve_is_absent_and_no_number():
    """No training anchor in common; no concept in common; both are valid JSON."""
    x, y = evaluation("x", 1, 0.05), evaluation("y", 2, 0.05)

    def only(one: SiteEvaluation, slots: tuple[int, ...], heldout: tuple[int, ...]) -> SiteEvaluation:
        keep = torch.tensor([*slots, *(9 + slot for slot in heldout)])
        gram = one.gram[keep[:, None], keep[None, :]]
        return dataclasses.replace(one, gram=gram, slots=slots, heldout_slots=heldout)

    every = tuple(range(9))
    apart = alignments({"x": only(x, (0, 1, 2), every), "y": only(y, (3, 4, 5), every)}, JOB)[0]
    nameless = dataclasses.replace(JOB, heldout=AnchorPin("1" * 64, ("",) * 9))
    for pair in (apart, alignments({"x": x, "y": y}, nameless)[0]):
        assert (pair.retrieval, pair.retrieval_chance) == (None, None)
        assert 0 < pair.cka <= 1
        json.dumps(dataclasses.asdict(pair), allow_nan=False)


def test_without_heldout_anchors_nothing_is_claimed():
    alone = dataclasses.replace(JOB, heldout=None)
    assert alignments({"x": evaluation("x", 1, 0.1), "y": evaluation("y", 2, 0.1)}, alone) == []


def test_samples_without_a_concept_are_no_matches():
    similarity = torch.eye(3)
    assert precision_at_1(similarity, ["", "a", "b"], ["", "a", "c"]) == (1.0, 1 / 3)
    assert mean_average_precision(similarity, ["", "a", "b"], ["", "a", "c"]) == 1.0
    assert math.isnan(precision_at_1(similarity, ["", "", ""], ["", "", ""])[0])
