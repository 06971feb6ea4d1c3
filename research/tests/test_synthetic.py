"""The made federation: its truth, and the ways of breaking it, each of which breaks what it says alone."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
from federation_checks import anchors_of, check, files_of, parts_of, unseen_tests
from fedgram import modalities
from fedgram.config.job import JobConfig
from fedgram.core.gram import cosine_gram
from fedgram.errors import ConfigError, DataError
from fedgram.sites.opening import open_site

from research.evidence.federations import EVEN, synthetic
from research.evidence.federations.probe import probe

RADAR, SONAR = "radar-1", "sonar-1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="module")
def whole(folder):
    return synthetic.build(folder)


def rows_of(federation, name, part="train"):
    return {s.id: s.content for s in parts_of(name, federation.sites[name])[part]}


def anchor_rows(federation, name):
    config = federation.sites[name]
    return np.stack(anchors_of(config)[0].contents(modalities.load(config.modality)))


@pytest.mark.parametrize(("sites", "alpha"), [(4, EVEN), (8, 0.5), (16, 0.1)])
def test_it_holds_what_a_federation_must(folder, sites, alpha):
    federation = synthetic.build(folder, sites=sites, alpha=alpha, seed=1)
    check(federation, sites)
    assert unseen_tests(federation) == {name: {"moss"} for name in federation.of_kind("thermal")}


@pytest.mark.parametrize("broken", get_args(synthetic.Broken))
def test_it_opens_however_broken(folder, broken):
    federation = synthetic.build(folder, broken=broken)
    job = JobConfig(anchors=federation.anchors, heldout=federation.heldout, backbone=federation.backbone)
    for name in (RADAR, SONAR):
        site = open_site(name, federation.sites[name], job)
        assert np.isfinite(synthetic.latents_of_anchors(federation, name)).all() or broken == "synthetic anchors"
        assert len(site.anchors.slots) == len(synthetic.latents_of_anchors(federation, name))


def test_an_unknown_way_to_break_it(tmp_path):
    with pytest.raises(ConfigError, match="broken"):
        synthetic.build(tmp_path, broken="something")


def test_it_is_the_same_bit_for_bit(tmp_path):
    for name in "ab":
        synthetic.build(tmp_path / name, sites=8, alpha=0.1, seed=2, broken="noisy site")
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_another_seed_is_another_world(folder, whole):
    other = synthetic.build(folder, seed=5)
    assert other.anchors != whole.anchors
    ids = sorted(rows_of(whole, RADAR))
    truth, others = synthetic.latents_of(whole, RADAR), synthetic.latents_of(other, RADAR)
    assert not any(np.allclose(truth[i], others[i]) for i in ids)


def test_the_truth_of_every_sample_is_known(whole):
    """A linear map of the true z explains most of what a modality sees."""
    truth, rows = synthetic.latents_of(whole, SONAR), rows_of(whole, SONAR)
    z = np.stack([np.append(truth[i], 1.0) for i in rows])
    x = np.stack(list(rows.values()))
    residue = x - z @ np.linalg.lstsq(z, x, rcond=None)[0]
    assert residue.var() < 0.7 * x.var()


def centres(federation, name):
    """Mean true z of each concept's training samples at a site, (C, 8)."""
    truth, samples = synthetic.latents_of(federation, name), parts_of(name, federation.sites[name])["train"]
    return np.stack([np.mean([truth[s.id] for s in samples if s.concept == c], 0) for c in synthetic.CONCEPTS])


def test_two_modalities_share_their_geometry_unless_it_is_broken(folder, whole):
    unshared = synthetic.build(folder, broken="no shared geometry")
    assert np.abs(centres(whole, RADAR) - centres(whole, SONAR)).max() < 0.6
    assert np.abs(centres(unshared, RADAR) - centres(unshared, SONAR)).max() > 1.5


def test_wrong_concept_anchors_show_the_next_concept(folder, whole):
    federation = synthetic.build(folder, broken="wrong concept anchors")
    before, after = (synthetic.latents_of_anchors(f, RADAR) for f in (whole, federation))
    np.testing.assert_array_equal(after, np.roll(before, -synthetic.SLOTS, axis=0))
    np.testing.assert_array_equal(anchor_rows(federation, SONAR), anchor_rows(whole, SONAR))
    assert federation.anchors.concepts == whole.anchors.concepts


def test_a_turned_modality_keeps_its_geometry(folder, whole):
    federation = synthetic.build(folder, broken="rotated modality")
    before, after = (anchor_rows(f, RADAR).astype(np.float64) for f in (whole, federation))
    np.testing.assert_allclose(before @ before.T, after @ after.T, atol=2e-2)
    assert np.abs(before - after).max() > 0.5
    np.testing.assert_array_equal(anchor_rows(federation, SONAR), anchor_rows(whole, SONAR))


def test_few_anchors_are_one_a_concept(folder):
    federation = synthetic.build(folder, broken="few anchors")
    assert sorted(federation.anchors.concepts) == sorted(set(synthetic.CONCEPTS))
    assert federation.heldout.slots == 24


def test_partial_anchors_miss_a_concept_each(folder):
    federation = synthetic.build(folder, broken="partial anchors")
    missing = []
    for name, config in federation.sites.items():
        missing.append(set(synthetic.CONCEPTS) - set(anchors_of(config)[0].concepts(name.partition("-")[0])))
    assert all(len(m) == 1 for m in missing)
    assert len(set.union(*missing)) == 4


def differences(federation):
    """Differences of the true z of radar's and sonar's anchors of the same slots."""
    return synthetic.latents_of_anchors(federation, RADAR) - synthetic.latents_of_anchors(federation, SONAR)


def test_shuffled_anchors_are_the_same_ones_elsewhere(folder, whole):
    federation = synthetic.build(folder, broken="shuffled anchors")
    for name in federation.sites:
        before, after = (synthetic.latents_of_anchors(f, name) for f in (whole, federation))
        assert sorted(map(tuple, before)) == sorted(map(tuple, after))
        assert (before != after).any(axis=1).mean() > 0.5
    apart = [np.linalg.norm(differences(f), axis=1).mean() for f in (whole, federation)]
    assert apart[1] > 1.3 * apart[0]


def test_synthetic_anchors_say_so_and_are_near_their_concept(folder, whole):
    federation = synthetic.build(folder, broken="synthetic anchors")
    slots = anchors_of(federation.sites[RADAR])[0].slots
    assert {s.files["radar"].origin for s in slots} == {"synthetic"}
    assert {s.files["sonar"].origin for s in slots} == {"real"}
    before, after = (anchor_rows(f, RADAR).reshape(6, 4, -1).mean(1) for f in (whole, federation))
    distance = np.linalg.norm(before[:, None] - after[None], axis=2)
    assert (distance.argmin(1) == np.arange(6)).all()


def test_a_noisy_site_trains_on_noise_and_is_tested_fairly(folder, whole):
    federation = synthetic.build(folder, broken="noisy site")
    before, after = rows_of(whole, RADAR), rows_of(federation, RADAR)
    changed = np.mean([(before[i] != after[i]).mean() for i in before])
    assert 0.45 < changed < 0.52
    tests = rows_of(whole, RADAR, "test"), rows_of(federation, RADAR, "test")
    assert all((tests[0][i] == tests[1][i]).all() for i in tests[0])
    assert federation.sites[SONAR] == whole.sites[SONAR]
    assert probe(federation, RADAR).accuracy < probe(whole, RADAR).accuracy


def test_a_mislabelled_site_has_the_same_labels_elsewhere(folder, whole):
    federation = synthetic.build(folder, broken="mislabelled site")
    parts = [parts_of(RADAR, f.sites[RADAR]) for f in (whole, federation)]
    before, after = ({s.id: s.concept for s in p["train"]} for p in parts)
    assert sorted(before.values()) == sorted(after.values())
    assert np.mean([before[i] == after[i] for i in before]) < 0.3
    assert [s.concept for s in parts[0]["test"]] == [s.concept for s in parts[1]["test"]]


def test_a_collapsed_site_hardly_tells_its_samples_apart(folder, whole):
    federation = synthetic.build(folder, broken="collapsed site")
    spread = {}
    for f in (whole, federation):
        site = open_site(
            RADAR, f.sites[RADAR], JobConfig(anchors=f.anchors, heldout=f.heldout, backbone=f.backbone)
        )
        spread[f.name] = cosine_gram(site.data["train"].tokens.values.flatten(1)).min().item()
    assert spread["synthetic"] < 0.9
    assert spread["synthetic, collapsed site"] > 0.999


def test_an_unknown_encoder_is_refused(whole):
    config = replace(whole.sites[RADAR], tokenizer="other")
    with pytest.raises(DataError, match="identity or collapsed"):
        modalities.load(config.modality).tokenizer(config.tokenizer, [])


def test_every_modality_carries_the_signal_and_is_not_at_its_ceiling(whole):
    for name in whole.sites:
        found = probe(whole, name)
        assert found.majority + 0.3 < found.accuracy, found
