"""Questions across modalities, from the saved results of sites."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import fedgram
import pytest
import torch
from fedgram.core.frame import consensus_frame
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import cross_similarity
from fedgram.errors import AnchorError, DataError
from fedgram.results import crossmodal
from fedgram.sites.single import SingleSite
from reference.frame import by_procrustes
from toy import SITES


@pytest.fixture(scope="module")
def sites(finished: Path) -> dict[str, SingleSite]:
    return {name: fedgram.load(finished, site=name).site for name in SITES}


def part(site: SingleSite, split: str = "test") -> crossmodal.Embedded:
    return crossmodal.embed(site, site.samples(split))


def test_a_concept_that_only_another_modality_was_trained_on(sites: dict[str, SingleSite]):
    transfers = crossmodal.transfers(part(sites["green"]), part(sites["red"], "train"))
    assert [(t.concept, t.samples > 0, t.chance) for t in transfers] == [("rye", True, 0.25)]
    assert transfers[0].accuracy > 0.75
    assert (
        crossmodal.transfers(part(sites["red"]), part(sites["blue"], "train")) == []
    )  # blue knows nothing that red does not


def test_samples_are_compared_in_the_frame_of_the_mean_gram_of_the_slots_that_both_cover(
    sites: dict[str, SingleSite],
):
    red, blue = part(sites["red"]), part(sites["blue"])  # blue has no anchor of moss
    slots = list(sites["blue"].anchors.slots)
    assert len(slots) < len(sites["red"].anchors.slots)
    anchors = [red.anchors[slots], blue.anchors]
    places = consensus_frame(sum(map(cosine_gram, anchors)) / 2)
    expected = [by_procrustes(p.z, a, places) for p, a in zip((red, blue), anchors, strict=True)]
    torch.testing.assert_close(
        crossmodal.similarities(red, blue), cross_similarity(*expected).float(), atol=1e-3, rtol=0
    )


def test_retrieval_beats_chance_in_the_frame(sites: dict[str, SingleSite]):
    for query, gallery in (("red", "green"), ("green", "blue"), ("blue", "red")):
        found = crossmodal.compare(part(sites[query]), part(sites[gallery]))
        assert found.relative > 2 * found.chance
        assert found.relative_map > 2 * found.chance


def test_sites_of_different_anchor_sets_cannot_be_compared(sites: dict[str, SingleSite]):
    other = dataclasses.replace(sites["blue"], anchors=dataclasses.replace(sites["blue"].anchors, sha256="0" * 64))
    with pytest.raises(AnchorError, match="different anchor sets"):
        crossmodal.compare(part(sites["red"]), part(other))


def test_a_site_without_concepts_cannot_name_anything(sites: dict[str, SingleSite]):
    taught = part(sites["red"], "train")
    nameless = dataclasses.replace(taught, samples=[dataclasses.replace(s, concept="") for s in taught.samples])
    with pytest.raises(DataError, match="red: the data name no concepts"):
        crossmodal.named_by(part(sites["blue"]), nameless)
    assert crossmodal.compare(part(sites["blue"]), nameless).queries == 0
