"""Questions across modalities, from the saved results of sites."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from fedgram import crossmodal
from fedgram.errors import AnchorError, CheckpointError, DataError, FedgramError
from fedgram.training import local
from fedgram.training.loop import run_federation
from fedgram.training.site import Site
from toy import Toy


@pytest.fixture(scope="module")
def results(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run in which green never saw a label of rye."""
    folder = tmp_path_factory.mktemp("crossmodal")
    green = dataclasses.replace(toy.sites["green"], concepts=("oak", "pine", "moss"))
    run = dataclasses.replace(toy.with_job(baseline=False), sites={**toy.sites, "green": green})
    run_federation(run.sessions(folder), run.job, folder / "server")
    return {name: folder / name / "result" for name in run.sites}


@pytest.fixture(scope="module")
def sites(results: dict[str, Path]) -> dict[str, Site]:
    return {name: crossmodal.load(folder) for name, folder in results.items()}


def test_a_loaded_site_is_the_trained_one(toy: Toy, results: dict[str, Path], sites: dict[str, Site]):
    again = crossmodal.load(results["red"])
    tokens = again.anchors.tokens
    torch.testing.assert_close(local.represent(again, tokens), local.represent(sites["red"], tokens))
    fresh = local.represent(toy.open("red"), tokens)
    assert (local.represent(again, tokens) - fresh).abs().max() > 0.01


def part(site: Site, split: str = "test") -> crossmodal.Embedded:
    return crossmodal.embed(site, crossmodal.samples_of(site, split))


def test_a_concept_that_only_another_modality_was_trained_on(sites: dict[str, Site]):
    transfers = crossmodal.transfers(part(sites["green"]), part(sites["red"], "train"))
    assert [(t.concept, t.samples > 0, t.chance) for t in transfers] == [("rye", True, 0.25)]
    assert transfers[0].accuracy > 0.75
    assert (
        crossmodal.transfers(part(sites["red"]), part(sites["blue"], "train")) == []
    )  # blue knows nothing that red does not


def test_retrieval_beats_chance_in_anchor_coordinates(sites: dict[str, Site]):
    for query, gallery in (("red", "green"), ("green", "blue"), ("blue", "red")):
        found = crossmodal.compare(part(sites[query]), part(sites[gallery]))
        assert found.relative > 2 * found.chance
        assert found.relative_map > 2 * found.chance


def test_matches_come_best_first_and_name_what_was_found(sites: dict[str, Site]):
    asked = crossmodal.samples_of(sites["red"], "test")[:2]
    matches = crossmodal.retrieve(sites["red"], [s.content for s in asked], sites["blue"], k=4)
    known = {s.id: s.concept for s in crossmodal.samples_of(sites["blue"], "test")}
    for row in matches:
        assert len(row) == 4
        assert [m.similarity for m in row] == sorted((m.similarity for m in row), reverse=True)
        assert all(known[m.id] == m.concept for m in row)


def test_sites_of_different_anchor_sets_cannot_be_compared(sites: dict[str, Site]):
    other = dataclasses.replace(sites["blue"], anchors=dataclasses.replace(sites["blue"].anchors, sha256="0" * 64))
    with pytest.raises(AnchorError, match="different anchor sets"):
        crossmodal.compare(part(sites["red"]), part(other))


def test_a_damaged_result_is_named(results: dict[str, Path], tmp_path: Path):
    with pytest.raises(CheckpointError, match="no result of a site"):
        crossmodal.load(tmp_path)
    (tmp_path / "site.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"site\.json: damaged"):
        crossmodal.load(tmp_path)


def test_data_that_have_moved_are_one_clear_error(results: dict[str, Path], tmp_path: Path):
    for file in results["red"].iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes().replace(b"red.csv", b"moved.csv"))
    with pytest.raises((FedgramError, FileNotFoundError), match=r"moved\.csv"):
        crossmodal.load(tmp_path)


def test_a_site_without_concepts_cannot_name_anything(sites: dict[str, Site]):
    taught = part(sites["red"], "train")
    nameless = dataclasses.replace(taught, samples=[dataclasses.replace(s, concept="") for s in taught.samples])
    with pytest.raises(DataError, match="red: the data name no concepts"):
        crossmodal.named_by(part(sites["blue"]), nameless)
    assert crossmodal.compare(part(sites["blue"]), nameless).queries == 0
