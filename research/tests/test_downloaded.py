"""The federations whose data are fetched from the package registry."""

from __future__ import annotations

import pytest
from federation_checks import check, contents, files_of, unseen_tests

from research.evidence.federations import EVEN, digits, emoji, pathogens
from research.evidence.federations.anchorsets import shuffle_anchors, training_anchors
from research.evidence.federations.damage import mislabelled_site, noisy_site
from research.evidence.federations.made import synthetic_anchors
from research.evidence.federations.probe import probe

pytestmark = pytest.mark.slow

MODULES = (digits, emoji, pathogens)


@pytest.fixture(scope="module", params=MODULES, ids=lambda module: module.NAME)
def module(request):
    return request.param


@pytest.fixture(scope="module")
def folder(module, tmp_path_factory):
    return tmp_path_factory.mktemp(module.NAME)


@pytest.mark.parametrize(("sites", "alpha"), [(4, EVEN), (8, 0.5), (16, 0.1), (16, EVEN)])
def test_it_holds_what_a_federation_must(module, folder, sites, alpha):
    federation = module.build(folder, sites=sites, alpha=alpha, seed=1)
    check(federation, sites)
    found = unseen_tests(federation)
    assert set(found) <= set(federation.of_kind("text"))
    assert set().union(*found.values()) == module.UNSEEN


def test_no_content_is_on_two_sides(module, folder):
    federation = module.build(folder)
    for name in federation.sites:
        sides = list(contents(federation, name).values())
        assert sum(map(len, sides)) == len(set().union(*sides)), name


def test_every_modality_carries_the_signal(module, folder):
    federation = module.build(folder)
    for name in federation.sites:
        found = probe(federation, name)
        assert found.accuracy > found.majority + 0.2, found
        assert found.tokens <= 16


def test_it_is_the_same_bit_for_bit(module, folder, tmp_path):
    (tmp_path / "downloads").symlink_to(folder / "downloads")
    again = module.build(tmp_path, sites=8, alpha=0.5, seed=2)
    first = module.build(folder, sites=8, alpha=0.5, seed=2)
    assert (again.anchors, again.heldout) == (first.anchors, first.heldout)
    here, there = files_of(tmp_path / "sites"), files_of(folder / "sites")
    assert here.items() <= there.items()
    assert here


def test_its_anchors_and_sites_can_be_spoilt(module, folder):
    federation = module.build(folder)
    assert shuffle_anchors(federation, folder, 0).anchors != federation.anchors
    for name in federation.sites:
        noisy_site(federation, folder, name)
        mislabelled_site(federation, folder, name)
    assert synthetic_anchors(federation, folder, "text").anchors != federation.anchors


def test_made_rows_of_digits_need_public_ones(tmp_path_factory):
    folder = tmp_path_factory.mktemp("digits")
    federation = digits.build(folder)
    made = synthetic_anchors(federation, folder, "tabular", public=digits.public_table(folder))
    anchors = training_anchors(made)
    assert len(anchors.covered("tabular")) == len(training_anchors(federation).covered("tabular"))
    assert {s.files["tabular"].origin for s in anchors.slots} == {"synthetic"}


def test_made_dna_of_pathogens(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pathogens")
    made = synthetic_anchors(pathogens.build(folder), folder, "genomics")
    assert {s.files["genomics"].origin for s in training_anchors(made).slots} == {"synthetic"}
