"""The directory of concepts by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fedgram.core.directory import Directory, Published, is_name, merge, prototypes
from fedgram.core.frame import consensus_frame, frame_coordinates
from fedgram.core.gram import check_gram, cosine_gram
from fedgram.core.relative import anchor_coordinates, cross_similarity
from strategies import normal, orthogonal


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


def place(z: torch.Tensor, anchors: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    return frame_coordinates(anchor_coordinates(z, anchors), cosine_gram(anchors), places)


def speaker(modality: str, slots: tuple[int, ...], turn: torch.Tensor | None = None) -> Published:
    """A site that sees one scene through a rotation of its own, and speaks of the concepts of some samples."""
    z, anchors = SCENE[0], SCENE[1][list(slots)]
    if turn is not None:
        z, anchors = z @ turn, anchors @ turn
    own = {name: anchor_coordinates(z[rows], anchors).mean(0) for name, rows in CONCEPTS.items()}
    return Published(modality=modality, prototypes=own, gram=cosine_gram(anchors), slots=slots)


SCENE = normal(0, 6, 4), normal(1, 8, 4)  # samples, anchors
CONCEPTS = {"oak": [0, 1], "rye": [2, 3, 4]}
EVERY = tuple(range(8))


def test_one_site_alone_gives_its_own_frame_and_places():
    found = merge({"one": speaker("text", EVERY)}, 8)
    assert found is not None
    places = consensus_frame(cosine_gram(SCENE[1]))
    torch.testing.assert_close(found.places, places.float())
    assert list(found.prototypes) == [("text", "oak"), ("text", "rye")]
    expected = place(SCENE[0][[0, 1]], SCENE[1], places).mean(0)
    torch.testing.assert_close(found.prototypes["text", "oak"], expected, atol=1e-5, rtol=1e-4)


def test_sites_that_see_the_same_through_rotations_agree_also_where_one_lacks_anchors():
    sites = {"a": speaker("text", EVERY), "b": speaker("dna", EVERY, orthogonal(5, 4))}
    found = merge(sites, 8)
    assert found is not None
    for concept in CONCEPTS:
        pair = found.prototypes["text", concept], found.prototypes["dna", concept]
        torch.testing.assert_close(*pair, atol=1e-5, rtol=1e-4)
    partial = merge({**sites, "c": speaker("image", EVERY[:6], orthogonal(6, 4))}, 8)
    assert partial is not None
    for concept in CONCEPTS:
        likeness = cross_similarity(
            partial.prototypes["image", concept][None], partial.prototypes["text", concept][None]
        )
        assert likeness.item() > 0.9


def test_a_lying_modality_places_nothing_further_out_than_a_sample_can_be():
    """Its Gram is almost collapsed, so that its coordinates are blown up; both pass the contract."""
    honest = {name: speaker("text", EVERY, orthogonal(seed, 4)) for seed, name in enumerate("ab")}
    flat = 1.0 - 1e-5 * (1.0 - cosine_gram(SCENE[1]))
    long = {name: -2.0 * values / values.abs().max() for name, values in speaker("x", EVERY).prototypes.items()}
    liar = Published(modality="x", prototypes=long, gram=flat, slots=EVERY)
    assert check_gram(flat) is None
    found = merge({**honest, "liar": liar}, 8)
    assert found is not None
    assert place_of(liar, "oak", found.places).norm() > 100
    assert all(found.prototypes["x", name].norm() <= 2.0 + 1e-5 for name in CONCEPTS)
    assert all(found.prototypes["text", name].norm() < 2.0 for name in CONCEPTS)


def test_a_merge_is_the_same_in_any_order_and_a_median_over_the_sites_of_a_modality():
    sites = {name: speaker("text", EVERY, orthogonal(seed, 4)) for seed, name in enumerate("abc")}
    sites["b"] = replace(sites["b"], prototypes={"oak": -sites["b"].prototypes["oak"]})
    found, again = merge(sites, 8), merge(dict(reversed(sites.items())), 8)
    assert found is not None
    assert again is not None
    assert torch.equal(found.places, again.places)
    assert all(torch.equal(values, again.prototypes[key]) for key, values in found.prototypes.items())
    parts = [place_of(sites[name], "oak", found.places) for name in "abc"]
    torch.testing.assert_close(
        found.prototypes["text", "oak"], torch.stack(parts).median(0).values, atol=1e-5, rtol=1e-4
    )


def test_one_site_of_four_cannot_turn_the_directory():
    """It says that its concept lies opposite, and that neighbouring anchors do: both are valid by themselves."""
    sites = {name: speaker("text", EVERY, orthogonal(seed, 4)) for seed, name in enumerate("abcd")}
    honest = merge(sites, 8)
    signs = 1.0 - 2.0 * (torch.arange(8) % 2)
    lie = replace(sites["d"], prototypes={"oak": -sites["d"].prototypes["oak"]}, gram=torch.outer(signs, signs))
    lied = merge({**sites, "d": lie}, 8)
    assert honest is not None
    assert lied is not None
    torch.testing.assert_close(lied.places, honest.places, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        lied.prototypes["text", "oak"], honest.prototypes["text", "oak"], atol=1e-3, rtol=1e-2
    )


def place_of(site: Published, concept: str, places: torch.Tensor) -> torch.Tensor:
    return frame_coordinates(site.prototypes[concept][None], site.gram, places[list(site.slots)])[0]


def test_nobody_who_speaks_makes_no_directory():
    silent = replace(speaker("text", EVERY), prototypes={}, gram=torch.zeros(0, 0))
    assert merge({}, 8) is None
    assert merge({"a": silent}, 8) is None
    spoken = merge({"a": speaker("text", EVERY)}, 8)
    both = merge({"a": speaker("text", EVERY), "b": silent}, 8)
    assert spoken is not None
    assert both is not None
    assert torch.equal(spoken.places, both.places)


def test_samples_are_named_by_other_modalities_and_by_their_own_only_where_no_other_speaks():
    one, two = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    directory = Directory(
        places=torch.eye(2),
        prototypes={("dna", "oak"): one, ("image", "oak"): two, ("text", "oak"): 5 * one, ("text", "rye"): two},
    )
    assert {k: v.tolist() for k, v in directory.prototypes_for("text").items()} == {"oak": [0.5, 0.5]}
    assert directory.prototypes_for("image")["oak"].tolist() == [3.0, 0.0]
    assert list(directory.prototypes_for("image")) == ["oak", "rye"]
    alone = replace(directory, prototypes={("text", "rye"): two})
    assert alone.prototypes_for("text")["rye"].tolist() == [0.0, 1.0]
