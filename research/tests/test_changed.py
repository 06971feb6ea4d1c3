"""Real anchors shuffled, thinned, misplaced and made, and real sites spoilt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federation_checks import files_of, parts_of
from fedgram import modalities
from fedgram.data.pixels import open_image
from fedgram.errors import AnchorError

from research.evidence.federations import carnivora
from research.evidence.federations.anchorsets import (
    fewer_anchors,
    misplace_anchors,
    partial_anchors,
    shuffle_anchors,
    training_anchors,
)
from research.evidence.federations.damage import mislabelled_site, noisy_site
from research.evidence.federations.made import synthetic_anchors
from research.evidence.federations.once import digest, once

KINDS = ("genomics", "image", "tabular", "text")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("changed")


@pytest.fixture(scope="module")
def whole(folder):
    return carnivora.build(folder)


def hashes(federation, kind):
    """sha256 of a modality's anchor by slot."""
    return {s.id: s.files[kind].sha256 for s in training_anchors(federation).slots if kind in s.files}


def test_shuffled_anchors_change_places_within_their_modality(folder, whole):
    shuffled = shuffle_anchors(whole, folder, 0)
    for kind in KINDS:
        before, after = hashes(whole, kind), hashes(shuffled, kind)
        assert set(before) == set(after)
        assert sorted(before.values()) == sorted(after.values())
        assert sum(before[slot] != after[slot] for slot in before) > len(before) / 2
    assert shuffled.anchors.concepts == whole.anchors.concepts
    assert shuffled.heldout == whole.heldout
    assert shuffle_anchors(whole, folder, 0) == shuffled
    assert shuffle_anchors(whole, folder, 1).anchors != shuffled.anchors
    assert whole.anchors.sha256 == training_anchors(whole).manifest_sha256


def test_modalities_are_not_shuffled_alike(folder, whole):
    """Else the slots would agree as before."""
    anchors, shuffled = training_anchors(whole), training_anchors(shuffle_anchors(whole, folder, 0))
    place = {s.files[k].sha256: i for i, s in enumerate(anchors.slots) for k in s.files}
    both = [s for s in shuffled.slots if {"text", "image"} <= set(s.files)]
    same = sum(place[s.files["text"].sha256] == place[s.files["image"].sha256] for s in both)
    assert same < len(both) / 2


def test_fewer_anchors_are_taken_from_the_concepts_in_turn(folder, whole):
    few = fewer_anchors(whole, folder, 10)
    ids = [slot.id for slot in training_anchors(few).slots]
    families = ("Canidae", "Felidae", "Ursidae", "Mustelidae")
    assert set(ids) == {f"{f}-{i}" for f in families for i in (1, 2)} | {"Canidae-3", "Felidae-3"}
    assert set(hashes(few, "text").items()) <= set(hashes(whole, "text").items())


@pytest.mark.parametrize("count", [0, 25])
def test_a_number_of_anchors_that_cannot_be(folder, whole, count):
    with pytest.raises(AnchorError, match=f"{count} slots"):
        fewer_anchors(whole, folder, count)


def test_too_few_anchors_for_a_modality(folder, whole):
    with pytest.raises(AnchorError, match="fewer than 4 image anchors"):
        fewer_anchors(whole, folder, 4)


def test_misplaced_anchors_show_the_next_concept(folder, whole):
    moved, before = hashes(misplace_anchors(whole, folder, "image"), "image"), hashes(whole, "image")
    assert moved["Canidae-1"] == before["Felidae-1"]
    assert moved["Ursidae-6"] == before["Canidae-6"]
    assert hashes(misplace_anchors(whole, folder, "image"), "text") == hashes(whole, "text")


def test_partial_anchors_miss_a_concept_each(folder, whole):
    anchors = training_anchors(partial_anchors(whole, folder))
    lost = {kind: set(training_anchors(whole).concepts(kind)) - set(anchors.concepts(kind)) for kind in KINDS}
    assert lost == {"genomics": {"Canidae"}, "image": {"Felidae"}, "tabular": {"Mustelidae"}, "text": {"Ursidae"}}


@pytest.mark.parametrize("kind", ["text", "genomics", "tabular"])
def test_made_anchors_fill_the_slots_of_the_real_ones(folder, whole, kind):
    before, anchors = training_anchors(whole), training_anchors(synthetic_anchors(whole, folder, kind))
    fitted = [i for i in before.covered(kind) if kind != "tabular" or before.slots[i].concept != "Ursidae"]
    assert anchors.covered(kind) == tuple(fitted)
    assert {anchors.slots[i].files[kind].origin for i in fitted} == {"synthetic"}
    assert not {anchors.slots[i].files[kind].sha256 for i in fitted} & set(hashes(whole, kind).values())
    modality = modalities.load(kind)
    assert len({modality.fingerprint(content) for content in anchors.contents(modality)}) == len(fitted)


def test_no_generator_for_images(folder, whole):
    with pytest.raises(AnchorError, match="no generator"):
        synthetic_anchors(whole, folder, "image")


def test_no_rows_to_fit_on(folder, whole):
    with pytest.raises(AnchorError, match="no concept with 4 rows"):
        synthetic_anchors(fewer_anchors(whole, folder, 12), folder, "tabular")


@pytest.mark.parametrize("name", ["image-1", "text-1", "genomics-1", "tabular-1"])
def test_a_noisy_site_is_spoilt_except_for_its_test(folder, whole, name):
    noisy = noisy_site(whole, folder, name)
    modality = modalities.load(whole.sites[name].modality)
    before, after = (parts_of(name, f.sites[name], all_concepts=True) for f in (whole, noisy))
    for part in before:
        assert [(s.id, s.concept, s.group) for s in before[part]] == [
            (s.id, s.concept, s.group) for s in after[part]
        ]
        pairs = zip(before[part], after[part], strict=True)
        same = [modality.fingerprint(a.content) == modality.fingerprint(b.content) for a, b in pairs]
        assert all(same) if part == "test" else np.mean(same) < 0.2
    assert {n: c for n, c in noisy.sites.items() if n != name} == {
        n: c for n, c in whole.sites.items() if n != name
    }


def test_half_of_a_noisy_image_is_noise(folder, whole):
    configs = whole.sites["image-1"], noisy_site(whole, folder, "image-1").sites["image-1"]
    one, other = (parts_of("image-1", config)["train"][0] for config in configs)
    changed = np.asarray(open_image(one.content)) != np.asarray(open_image(other.content))
    assert 0.4 < changed.mean() < 0.6


@pytest.mark.parametrize("name", ["image-1", "text-1", "genomics-1", "tabular-1"])
def test_a_mislabelled_site_keeps_its_contents(folder, whole, name):
    wrong = mislabelled_site(whole, folder, name)
    modality = modalities.load(whole.sites[name].modality)
    before, after = (parts_of(name, f.sites[name], all_concepts=True) for f in (whole, wrong))
    assert sorted(s.concept for s in before["train"]) == sorted(s.concept for s in after["train"])
    assert sum(a.concept != b.concept for a, b in zip(before["train"], after["train"], strict=True)) > 10
    assert [s.concept for s in before["test"]] == [s.concept for s in after["test"]]
    pairs = zip(before["train"], after["train"], strict=True)
    assert all(modality.fingerprint(a.content) == modality.fingerprint(b.content) for a, b in pairs)


def test_what_is_spoilt_is_the_same_bit_for_bit(whole, tmp_path):
    for part in "ab":
        for name in whole.sites:
            noisy_site(whole, tmp_path / part, name, seed=1)
            mislabelled_site(whole, tmp_path / part, name, seed=1)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")


def test_another_seed_spoils_otherwise(whole, tmp_path):
    for part, seed in (("a", 1), ("b", 2)):
        noisy_site(whole, tmp_path / part, "text-1", seed=seed)
    assert set(files_of(tmp_path / "a").values()) != set(files_of(tmp_path / "b").values())


def test_a_folder_is_written_once(tmp_path):
    calls = []

    def write(fresh: Path) -> None:
        calls.append(fresh)
        fresh.mkdir()

    assert once(tmp_path / "x", write) == once(tmp_path / "x", write) == tmp_path / "x"
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


def test_a_folder_that_fails_is_not_left_half_written(tmp_path):
    def write(fresh: Path) -> None:
        fresh.mkdir()
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        once(tmp_path / "x", write)
    assert list(tmp_path.iterdir()) == []


def test_whoever_comes_second_takes_what_is_there(tmp_path):
    def write(fresh: Path) -> None:
        fresh.mkdir()
        (fresh / "mine").touch()
        (tmp_path / "x").mkdir()
        (tmp_path / "x" / "theirs").touch()

    assert [p.name for p in once(tmp_path / "x", write).iterdir()] == ["theirs"]


def test_other_content_has_another_name():
    assert digest(["a", "b"]) == digest(["a", "b"]) != digest(["a", "c"])


def test_a_federation_knows_its_sites_by_modality(whole):
    assert whole.of_kind("text") == ["text-1"]
    renamed = replace(whole, sites={"text-1": whole.sites["text-1"], "text-2": whole.sites["text-1"]})
    assert renamed.of_kind("text") == ["text-1", "text-2"]
