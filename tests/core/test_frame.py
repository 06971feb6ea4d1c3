"""The consensus frame: places by hand, the turn against a slow search, and its laws."""

from __future__ import annotations

import math

import pytest
import torch
from fedgram.core.frame import consensus_frame, frame_coordinates
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import cross_similarity
from fedgram.errors import FedgramError


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def turn(width: int, seed: int) -> torch.Tensor:
    return torch.linalg.qr(random(width, width, seed=seed))[0]


def test_two_opposite_anchors_lie_at_plus_and_minus_one():
    places = consensus_frame(torch.tensor([[1.0, -1.0], [-1.0, 1.0]]))
    torch.testing.assert_close(places[:, 0].abs(), torch.ones(2).double())
    torch.testing.assert_close(places[0], -places[1])
    torch.testing.assert_close(places[:, 1], torch.zeros(2).double(), atol=1e-7, rtol=0)


def test_places_have_the_distances_that_the_consensus_says():
    gram = cosine_gram(random(7, 4))
    places = consensus_frame(gram)
    for i in range(7):
        for j in range(7):
            expected = math.sqrt(max(0.0, float(gram[i, i] + gram[j, j] - 2 * gram[i, j])))
            assert math.dist(places[i].tolist(), places[j].tolist()) == pytest.approx(expected, abs=1e-3)
    torch.testing.assert_close(places.sum(0), torch.zeros(7).double(), atol=1e-6, rtol=0)


def test_an_unknown_pair_counts_as_the_mean_of_the_known_ones():
    gram = cosine_gram(random(5, 3))
    holed = gram.clone()
    holed[0, 1] = holed[1, 0] = float("nan")
    filled = torch.where(holed.isnan(), holed[~holed.isnan()].mean(), holed)
    torch.testing.assert_close(consensus_frame(holed), consensus_frame(filled))


def test_no_rotation_of_the_plane_brings_the_anchors_nearer():
    anchors, places = random(6, 2), consensus_frame(cosine_gram(random(6, 2, seed=1)))[:, :2]
    unit = torch.nn.functional.normalize(anchors, dim=1).double()

    def distance(coordinates: torch.Tensor) -> float:
        return float((coordinates - places).square().sum())

    found = distance(frame_coordinates(anchors, anchors, places).double())
    for step in range(360):
        a = math.radians(step)
        for sign in (1.0, -1.0):
            rotation = torch.tensor([[math.cos(a), -sign * math.sin(a)], [math.sin(a), sign * math.cos(a)]])
            assert found <= distance((unit - unit.mean(0)) @ rotation.double()) + 1e-5


def test_two_sites_that_differ_by_a_rotation_and_scales_agree_in_the_frame():
    z, anchors = random(9, 5), random(8, 5, seed=1)
    places = consensus_frame(cosine_gram(anchors))
    here = frame_coordinates(z, anchors, places)
    there = frame_coordinates(3.0 * z @ turn(5, 2), 0.5 * anchors @ turn(5, 2), places)
    torch.testing.assert_close(here, there, atol=1e-5, rtol=1e-4)
    assert (cross_similarity(here, there).argmax(1) == torch.arange(9)).all()


@pytest.mark.parametrize(
    ("z", "anchors", "places"),
    [((3, 4), (5, 3), (5, 5)), ((3, 4), (5, 4), (4, 5)), ((3, 4), (1, 4), (1, 5)), ((4,), (5, 4), (5, 5))],
)
def test_shapes_that_do_not_fit_are_refused(z, anchors, places):
    with pytest.raises(FedgramError, match="samples of shape"):
        frame_coordinates(random(*z), random(*anchors), random(*places))


@pytest.mark.parametrize("consensus", [torch.zeros(2, 3), torch.full((3, 3), float("nan")), torch.zeros(3)])
def test_a_consensus_without_pairs_is_refused(consensus):
    with pytest.raises(FedgramError, match="a consensus of shape"):
        consensus_frame(consensus)
