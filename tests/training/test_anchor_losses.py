"""The loss in anchor coordinates, which goes beyond the paper."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates
from fedgram.errors import ConfigError
from fedgram.records import GlobalState
from fedgram.training import geometry, rounds
from fedgram.training.server import agree
from toy import Toy

ROWS = torch.tensor([0, 3, 25, 40])


@pytest.fixture
def state(toy: Toy) -> GlobalState:
    return agree([rounds.introduce(toy.open(name)) for name in toy.sites], toy.job)[0].state


def slow_concept_loss(site, rows, gram: torch.Tensor) -> float:
    """Minus the mean log-probability of the right concept, sample by sample."""
    names = [site.job.anchors.concepts[slot] for slot in site.anchors.slots]
    known = sorted(set(names))
    own = anchor_coordinates(
        site.model.embed(site.data["train"].tokens[rows]), site.model.embed(site.anchors.tokens)
    )
    places = []
    for concept in known:
        members = [gram[i] - gram[i].mean() for i, name in enumerate(names) if name == concept]
        places.append(torch.stack(members).mean(0))
    total = 0.0
    for coordinates, row in zip(own, rows.tolist(), strict=True):
        logits = torch.stack([torch.cosine_similarity(coordinates, place, dim=0) for place in places]) / 0.1
        total -= logits.log_softmax(0)[known.index(site.data["train"].concepts[row])].item()
    return total / len(rows)


@pytest.mark.parametrize("name", ["red", "blue"])  # blue has no anchors of one concept
def test_the_loss_is_the_place_among_the_anchors(toy: Toy, state: GlobalState, name: str):
    site = toy.open(name)
    z = site.model.represent(site.data["train"].tokens[ROWS])
    anchors = geometry.represent_anchors(site)
    slots = torch.tensor(site.anchors.slots)
    together = geometry.concept_loss(site, z, ROWS, anchors, state.consensus)
    assert together.item() == pytest.approx(
        slow_concept_loss(site, ROWS, state.consensus[slots][:, slots]), rel=1e-4
    )
    alone = geometry.concept_loss(site, z, ROWS, anchors, None)
    own = cosine_gram(site.model.embed(site.anchors.tokens))
    assert alone.item() == pytest.approx(slow_concept_loss(site, ROWS, own), rel=1e-4)
    assert together.item() != pytest.approx(alone.item(), rel=1e-3)


def test_samples_without_a_known_concept_count_for_nothing(toy: Toy, state: GlobalState):
    site = toy.open("red")
    train = site.data["train"]
    unknown = ["" if i in (0, 3) else c for i, c in enumerate(train.concepts)]
    other = dataclasses.replace(site, data={"fit": dataclasses.replace(train, concepts=unknown)})
    z, anchors = site.model.represent(train.tokens[ROWS]), geometry.represent_anchors(site)
    some = geometry.concept_loss(other, z, ROWS, anchors, state.consensus)
    rest = geometry.concept_loss(site, z[2:], ROWS[2:], anchors, state.consensus)
    torch.testing.assert_close(some, rest)
    assert geometry.concept_loss(other, z[:2], ROWS[:2], anchors, state.consensus) == 0


def test_the_loss_brings_samples_to_the_place_of_their_concept(toy: Toy, state: GlobalState):
    after = {}
    for weight in (0.0, 1.0):
        settings = {"concept_weight": weight, "geometry_weight": 0.0, "local_steps": 20}
        site = toy.with_job(training=settings).open("red")
        rounds.local_round(site, state)
        rows = torch.arange(len(site.data["train"]))
        z = site.model.embed(site.data["train"].tokens)
        anchors = site.model.embed(site.anchors.tokens)
        after[weight] = geometry.concept_loss(site, z, rows, anchors, state.consensus).item()
    assert after[1.0] < 0.5 * after[0.0]


def test_a_weight_is_not_negative(toy: Toy):
    with pytest.raises(ConfigError, match="concept_weight"):
        toy.with_job(training={"concept_weight": -1.0})
