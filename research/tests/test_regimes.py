"""The regimes on made data, and how samples are dealt in all of them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from federation_checks import anchors_of, files_of, parts_of
from fedgram.config.job import JobConfig
from fedgram.data.splits import PARTS
from fedgram.errors import ConfigError
from fedgram.sites.opening import open_site
from hypothesis import given
from hypothesis import strategies as st

from research.evidence.federations import kind_of, regimes, sharing
from research.evidence.federations.items import Item, Pool
from research.evidence.federations.latent import KINDS
from research.evidence.federations.synthetic import latents_of, latents_of_anchors
from research.evidence.federations.world import CONCEPTS

NAME = "synthetic"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp(NAME)


@pytest.fixture(scope="module")
def foreign(folder):
    return regimes.foreign_anchors(NAME, folder, seed=1)


@pytest.fixture(scope="module")
def paired(folder):
    return regimes.very_thing(NAME, folder, seed=1)


def items_of(sizes, concept="a"):
    return [
        Item(f"{concept}-{group}-{number}", concept, f"{concept}-{group}", "")
        for group, size in enumerate(sizes)
        for number in range(size)
    ]


def opens(federation):
    job = JobConfig(anchors=federation.anchors, heldout=federation.heldout, backbone=federation.backbone)
    site = next(iter(federation.sites))
    return open_site(site, federation.sites[site], job)


@pytest.mark.parametrize("shots", [1, 8])
def test_few_labels(folder, shots):
    federation = regimes.few_labels(NAME, folder, shots=shots, seed=1).federation
    assert Counter(map(kind_of, federation.sites)) == dict.fromkeys(KINDS, 2)
    for own in sharing.counts(federation).values():
        assert own["train"] == dict.fromkeys(CONCEPTS, shots)
        assert own["validation"] == dict.fromkeys(CONCEPTS, max(2, shots))
        assert own["test"] == dict.fromkeys(CONCEPTS, sharing.MOST_TESTED)
    assert len(opens(federation).data["train"]) >= shots * len(CONCEPTS)


@pytest.mark.parametrize("alpha", [float("inf"), 0.1])
def test_many_sites(folder, alpha):
    federation = regimes.many_sites(NAME, folder, sites=8, alpha=alpha, seed=1).federation
    assert list(federation.sites) == [f"radar-{k + 1}" for k in range(8)]
    found = sharing.counts(federation)
    for part, each in (("train", 4), ("validation", 4), ("test", 20)):
        assert sum((own[part] for own in found.values()), Counter()) == dict.fromkeys(CONCEPTS, 8 * each)
    least = [sorted(own["train"][c] for c in CONCEPTS) for own in found.values()]
    assert all(row[-2] >= 4 for row in least)
    assert (least == [[4] * 6] * 8) == (alpha == float("inf"))


def test_no_group_is_on_two_sides(folder):
    for federation in (
        regimes.few_labels(NAME, folder, shots=1, seed=1).federation,
        regimes.many_sites(NAME, folder, sites=8, seed=1).federation,
    ):
        part_of = {}
        for name, config in federation.sites.items():
            for part, rows in parts_of(name, config).items():
                for sample in rows:
                    assert part_of.setdefault(sample.group, part) == part


def test_foreign_anchors_give_no_label_away(foreign):
    federation = foreign.federation
    assert federation.anchors.slots == 192
    assert len(set(federation.anchors.concepts)) == 48
    assert not set(federation.anchors.concepts + federation.heldout.concepts) & set(CONCEPTS)
    lacking = [c for own in foreign.unseen.values() for c in own]
    assert sorted(lacking) == sorted(CONCEPTS)
    for name, config in federation.sites.items():
        parts = parts_of(name, config)
        assert {s.concept for s in parts["train"]} == set(CONCEPTS) - {*foreign.unseen[kind_of(name)]}
        tested = Counter(s.concept for s in parts_of(name, config, all_concepts=True)["test"])
        assert min(tested[c] for c in CONCEPTS) >= sharing.LEAST_TESTED
    assert opens(federation).anchors.slots == tuple(range(192))


def test_the_very_thing_is_one_latent_everywhere(paired):
    federation = paired.federation
    assert federation.anchors.slots == 180
    first, *others = [latents_of_anchors(federation, name) for name in federation.sites]
    assert all(np.array_equal(first, other) for other in others)
    seen = {}
    for name, config in federation.sites.items():
        truth = latents_of(federation, name)
        tested = parts_of(name, config)["test"]
        seen[name] = {paired.thing[s.id]: truth[s.id].tolist() for s in tested}
        assert len(seen[name]) == len(tested) == 240
        assert all(paired.fine[paired.thing[s.id]].split()[0] == s.concept for s in tested)
    assert len({str(sorted(own.items())) for own in seen.values()}) == 1


def test_nobody_trains_on_the_same_thing(paired):
    things = [
        paired.thing[s.id]
        for name, config in paired.federation.sites.items()
        for part in ("train", "validation")
        for s in parts_of(name, config)[part]
    ]
    assert len(things) == len(set(things))


def test_a_fine_class_is_nearer_than_a_coarse_one(paired):
    """The fine class is what the latents say."""
    name = next(iter(paired.federation.sites))
    truth = latents_of(paired.federation, name)
    rows = [(paired.fine[paired.thing[i]], truth[i]) for i in paired.thing if i.startswith("sonar")]
    means = {fine: np.mean([z for f, z in rows if f == fine], axis=0) for fine, _ in rows}
    nearest = [min(means, key=lambda f, z=z: float(np.linalg.norm(means[f] - z))) for _, z in rows]
    assert len(means) == 18
    assert np.mean([found == fine for found, (fine, _) in zip(nearest, rows, strict=True)]) > 0.6


def test_seeds_redraw_and_nothing_else_does(folder, tmp_path, paired):
    again = regimes.very_thing(NAME, tmp_path, seed=1).federation
    assert again.anchors == paired.federation.anchors
    here, there = files_of(tmp_path), files_of(folder)
    assert here.items() <= there.items()
    assert anchors_of(next(iter(again.sites.values())))[1].manifest_sha256 == paired.federation.heldout.sha256
    pool = Pool("image", "image", "none", tuple(items_of([1] * 60)))
    first, second = (sharing.split(pool.items, [("train", 10)], seed)["train"] for seed in (0, 1))
    assert {i.id for i in first} != {i.id for i in second}


@given(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=20), need=st.integers(0, 10), seed=st.integers(0, 9))
def test_a_split_keeps_groups_together(sizes, need, seed):
    items = items_of(sizes)
    parts = sharing.split(items, [("train", need), ("test", need)], seed)
    assert sorted(i.id for own in parts.values() for i in own) == sorted(i.id for i in items)
    groups = [{i.group for i in parts[part]} for part in PARTS]
    assert sum(map(len, groups)) == len(sizes)
    assert len(parts["train"]) >= min(need, sum(sizes))
    assert not parts["validation"]


def test_a_group_of_many_classes_is_on_one_side():
    items = [Item(f"{c}-{g}", c, f"language {g}", "") for c in "abcd" for g in range(9)]
    parts = sharing.split(items, [("train", 2), ("validation", 3)], 0)
    for part, languages in (("train", 2), ("validation", 3), ("test", 4)):
        assert len(parts[part]) == 4 * languages
        assert len({i.group for i in parts[part]}) == languages


def test_a_class_with_few_test_samples_is_not_measured():
    pool = Pool("image", "image", "none", ())
    shares = {
        f"image-{k}": sharing.Share(
            pool, {"train": [], "validation": [], "test": items_of([1] * 10) + items_of([1] * 9, "b")}
        )
        for k in (1, 2)
    }
    tested = [[i.concept for i in share.parts["test"]] for share in sharing.measurable(shares).values()]
    assert tested == [["a"] * 10] * 2


def test_what_there_is_not(folder):
    with pytest.raises(ConfigError, match="shots"):
        regimes.few_labels(NAME, folder, shots=3, seed=0)
    with pytest.raises(ConfigError, match="federation"):
        regimes.few_labels("weather", folder, shots=1, seed=0)
    with pytest.raises(ConfigError, match="federation"):
        regimes.many_sites("weather", folder, sites=8, seed=0)
    with pytest.raises(ConfigError, match="foreign anchors"):
        regimes.foreign_anchors("digits", folder, seed=0)
    with pytest.raises(ConfigError, match="very thing"):
        regimes.very_thing("digits", folder, seed=0)


@pytest.mark.slow
def test_carnivora_has_too_few_pictures_for_hundred_sites(folder):
    with pytest.raises(ConfigError, match="classes have enough data"):
        regimes.many_sites("carnivora", folder, sites=100, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["carnivora", "digits", "emoji", "pathogens"])
@pytest.mark.parametrize("shots", [1, 8])
def test_few_labels_of_real_data(tmp_path_factory, name, shots):
    federation = regimes.few_labels(name, tmp_path_factory.getbasetemp() / name, shots=shots, seed=0).federation
    assert len(federation.sites) == regimes.SITES
    for own in sharing.counts(federation).values():
        assert set(own["train"].values()) == {shots}
        assert own["test"]
        assert max(own["test"].values()) <= sharing.MOST_TESTED
