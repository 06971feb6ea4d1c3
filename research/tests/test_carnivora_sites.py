"""The demo's data dealt to more sites."""

from __future__ import annotations

import pytest
from federation_checks import check, contents, files_of, unseen_tests

from research.evidence.federations import EVEN, carnivora
from research.evidence.federations.probe import probe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("carnivora")


@pytest.mark.parametrize(
    ("sites", "alpha"), [(4, EVEN), (8, 0.5), (16, 0.1), pytest.param(16, EVEN, marks=pytest.mark.slow)]
)
def test_it_holds_what_a_federation_must(folder, sites, alpha):
    federation = carnivora.build(folder, sites=sites, alpha=alpha, seed=1)
    check(federation, sites)
    assert all(federation.of_kind(kind) for kind in ("image", "text", "genomics", "tabular"))


def test_no_content_is_on_two_sides(folder):
    federation = carnivora.build(folder)
    for name in federation.sites:
        sides = list(contents(federation, name).values())
        assert sum(map(len, sides)) == len(set().union(*sides)), name


def test_no_text_site_learns_of_martens(folder):
    federation = carnivora.build(folder, sites=16)
    assert unseen_tests(federation) == {name: {"Mustelidae"} for name in federation.of_kind("text")}


def test_it_is_the_same_bit_for_bit(folder, tmp_path):
    build = {"sites": 8, "alpha": 0.5, "seed": 3}
    first, second = (carnivora.build(tmp_path / name, **build) for name in "ab")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert first.anchors == second.anchors


@pytest.mark.slow
def test_every_modality_but_the_small_table_carries_the_signal(folder):
    federation = carnivora.build(folder)
    for name in ("image-1", "text-1", "genomics-1"):
        found = probe(federation, name)
        assert found.accuracy > found.majority + 0.1, found
        assert found.tokens <= 16
