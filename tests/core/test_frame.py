"""The consensus frame: places by hand, the turn against a slow search, and its laws."""

from __future__ import annotations

import math

import pytest
import torch
from fedgram.core.frame import consensus_frame, frame_coordinates
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates, cross_similarity
from fedgram.errors import FedgramError
from hypothesis import given
from hypothesis import strategies as st
from reference import frame as reference
from strategies import normal, orthogonal, seeds
from torch.nn.functional import normalize


def test_two_opposite_anchors_lie_at_plus_and_minus_one():
    places = consensus_frame(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    torch.testing.assert_close(places[:, 0].abs(), torch.ones(2).double())
    torch.testing.assert_close(places[0], -places[1])
    torch.testing.assert_close(places[:, 1], torch.zeros(2).double(), atol=1e-7, rtol=0)


def test_places_have_the_distances_that_the_consensus_says():
    gram = cosine_gram(normal(0, 7, 4))
    places = consensus_frame(gram)
    for i in range(7):
        for j in range(7):
            expected = math.sqrt(max(0.0, float(gram[i, i] + gram[j, j] - 2 * gram[i, j])))
            assert math.dist(places[i].tolist(), places[j].tolist()) == pytest.approx(expected, abs=1e-3)
    torch.testing.assert_close(places.sum(0), torch.zeros(7).double(), atol=1e-6, rtol=0)


def test_an_unknown_pair_counts_as_the_mean_of_the_known_ones():
    gram = cosine_gram(normal(0, 5, 3))
    holed = gram.clone()
    holed[0, 1] = holed[1, 0] = float("nan")
    filled = torch.where(holed.isnan(), holed[~holed.isnan()].mean(), holed)
    torch.testing.assert_close(consensus_frame(holed), consensus_frame(filled))


def in_frame(z: torch.Tensor, anchors: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return frame_coordinates(anchor_coordinates(z, anchors), cosine_gram(anchors), places)


@given(st.integers(2, 9), st.integers(2, 12), seeds)
def test_coordinates_are_those_of_procrustes_on_the_representations(width, count, seed):
    z, anchors, others = normal(seed, 5, width), normal(seed + 1, count, width), normal(seed + 2, count, width)
    places = consensus_frame(cosine_gram(others))
    expected = reference.by_procrustes(z, anchors, places).float()
    torch.testing.assert_close(in_frame(z, anchors, places), expected, atol=1e-4, rtol=1e-3)


def test_no_rotation_of_the_plane_brings_the_anchors_nearer():
    anchors, places = normal(0, 6, 2), consensus_frame(cosine_gram(normal(1, 6, 2)))[:, :2]
    unit = normalize(anchors, dim=1).double()

    def distance(coordinates: torch.Tensor) -> float:
        return float((coordinates.double() - places).square().sum())

    found = distance(in_frame(anchors, anchors, places))
    for step in range(360):
        a = math.radians(step)
        for sign in (1.0, -1.0):
            turned = [[math.cos(a), -sign * math.sin(a)], [math.sin(a), sign * math.cos(a)]]
            assert found <= distance((unit - unit.mean(0)) @ torch.tensor(turned).double()) + 1e-5


def test_two_sites_that_differ_by_a_rotation_and_scales_agree_in_the_frame():
    z, anchors = normal(0, 9, 5), normal(1, 8, 5)
    places = consensus_frame(cosine_gram(anchors))
    here = in_frame(z, anchors, places)
    there = in_frame(3.0 * z @ orthogonal(2, 5), 0.5 * anchors @ orthogonal(2, 5), places)
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)
    assert (cross_similarity(here, there).argmax(1) == torch.arange(9)).all()


@pytest.mark.parametrize(
    ("coordinates", "gram", "places"),
    [((3, 4), (5, 5), (5, 5)), ((3, 5), (5, 5), (4, 5)), ((3, 5), (5, 4), (5, 5)), ((3, 1), (1, 1), (1, 5))],
)
def test_shapes_that_do_not_fit_are_refused(coordinates, gram, places):
    with pytest.raises(FedgramError, match="coordinates"):
        frame_coordinates(torch.zeros(coordinates), torch.zeros(gram), torch.zeros(places))


@pytest.mark.parametrize("consensus", [torch.zeros(2, 3), torch.full((3, 3), float("nan")), torch.zeros(3)])
def test_a_consensus_without_pairs_is_refused(consensus):
    with pytest.raises(FedgramError, match="a consensus of shape"):
        consensus_frame(consensus)
