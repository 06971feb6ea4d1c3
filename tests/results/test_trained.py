"""The results of a run in use: `fedgram.load` and what it gives."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import fedgram
import numpy as np
import pytest
import torch
from fedgram import modalities
from fedgram.cli.main import app
from fedgram.core.relative import anchor_coordinates
from fedgram.data.pixels import Picture
from fedgram.errors import BackboneError, CheckpointError, DataError, FedgramError
from fedgram.records import Sample
from fedgram.results import crossmodal
from fedgram.results.trained import Trained
from PIL import Image
from toy import LENGTH, SITES, Toy
from typer.testing import CliRunner


@pytest.fixture(scope="module")
def models(finished: Path) -> dict[str, Trained]:
    return {name: fedgram.load(finished, site=name) for name in SITES}


def test_importing_fedgram_stays_light():
    script = (
        "import sys, fedgram; print(*sorted({'torch', 'transformers', 'nvflare', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == ""
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        fedgram.lod  # noqa: B018


def test_what_loads_a_result_says_nothing_of_kernels_that_no_training_uses():
    """bitsandbytes warns of a missing one where PEFT imports it, on a processor that could use it."""
    said = "logging.getLogger('bitsandbytes.backends.cpu.ops').warning('Failed to load CPU gemm_4bit_forward')"
    script = f"import logging, fedgram; fedgram.load; {said}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert done.stderr == ""


def test_a_loaded_model_is_the_trained_one(toy: Toy, finished: Path, models: dict[str, Trained]):
    """Its test accuracy is what the site reported of what it keeps; an untrained model differs."""
    told = json.loads((finished / "server/metrics.json").read_text())["test_kept"]
    fresh = toy.open("red")
    for name, model in models.items():
        asked = own_samples(model)
        answers = model.predict([s.content for s in asked])
        right = np.mean([a.value == s.concept for a, s in zip(answers, asked, strict=True)])
        if name != "green":  # whose test split lacks what it never trained on
            assert right == pytest.approx(told[name]["accuracy"], abs=1e-6)
        assert right > 0.7
    tokens = fresh.anchors.tokens
    assert (models["red"].site.model.embed(tokens) - fresh.model.embed(tokens)).abs().max() > 0.01


def own_samples(model: Trained) -> list[Sample]:
    return model.site.samples("test")


def test_predictions_name_a_class_and_its_probability(models: dict[str, Trained]):
    answer = models["green"].predict([own_samples(models["green"])[0].content])[0]
    assert set(answer.scores) == {"oak", "pine", "moss"}
    assert sum(answer.scores.values()) == pytest.approx(1, abs=1e-5)
    assert max(answer.scores, key=answer.scores.__getitem__) == answer.value


def test_files_and_contents_are_the_same(models: dict[str, Trained], tmp_path: Path):
    model, asked = models["red"], own_samples(models["red"])[:2]
    files = []
    for sample in asked:
        files.append(tmp_path / f"{sample.id}.csv")
        np.savetxt(files[-1], sample.content[None], delimiter=",")
    torch.testing.assert_close(model.embed(files), model.embed([s.content for s in asked]))
    assert model.embed(files).shape == (2, 32)
    mixed = model.coordinates([files[0], asked[1].content])
    anchors = model.site.model.embed(model.site.anchors.tokens)
    torch.testing.assert_close(mixed, anchor_coordinates(model.embed(files), anchors))


def test_nothing_is_one_clear_error(models: dict[str, Trained]):
    for ask in (models["red"].predict, models["red"].embed):
        with pytest.raises(DataError, match="nothing to look at"):
            ask([])


def test_images_are_seen_through_the_sites_own_window(models: dict[str, Trained], tmp_path: Path, monkeypatch):
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 100).save(tmp_path / "ct.png")
    site = models["red"].site
    config = dataclasses.replace(site.config, window=(0.0, 3000.0))
    channel = dataclasses.replace(site.channels[0], modality=modalities.load("image"), window=config.window)
    model = Trained(dataclasses.replace(site, channels=(channel,), config=config))
    monkeypatch.setattr(crossmodal, "embed", lambda site, samples, **_: samples)
    picture = Picture(tmp_path / "ct.png", (0.0, 3000.0))
    assert [s.content for s in model.gallery([picture.path, Picture(picture.path)])] == [picture, picture]


def test_matches_come_best_first_and_name_what_was_found(models: dict[str, Trained]):
    asked = own_samples(models["red"])[:2]
    matches = models["red"].retrieve([s.content for s in asked], models["blue"], k=4)
    known = {s.id: s.concept for s in own_samples(models["blue"])}
    for row in matches:
        assert len(row) == 4
        assert [m.similarity for m in row] == sorted((m.similarity for m in row), reverse=True)
        assert all(known[m.id] == m.concept for m in row)


def test_retrieval_from_contents_of_ones_own(models: dict[str, Trained]):
    """The same gallery, given as contents under other names."""
    asked, there = own_samples(models["red"])[:3], own_samples(models["blue"])
    contents = [s.content for s in asked]
    gallery = models["blue"].gallery([s.content for s in there], [f"blue {s.id}" for s in there])
    by_site = models["red"].retrieve(contents, models["blue"], k=3)
    by_contents = models["red"].retrieve(contents, gallery, k=3)
    assert [[m.id for m in row] for row in by_contents] == [[f"blue {m.id}" for m in row] for row in by_site]


def test_a_concept_is_named_by_another_sites_labels(models: dict[str, Trained]):
    rye = [s.content for s in own_samples(models["green"]) if s.concept == "rye"]
    named = [match.concept for match in models["green"].classify(rye, models["red"])]
    assert np.mean([name == "rye" for name in named]) > 0.7


def test_a_result_is_found_in_its_folder_or_below_a_workspace(finished: Path):
    for folder in (finished, finished / "fedgram", finished / "fedgram/red", finished / "fedgram/red/result"):
        assert fedgram.load(folder, site="red").site.name == "red"
    assert fedgram.load(str(finished / "fedgram/red")).site.name == "red"


@pytest.mark.parametrize(
    ("where", "site", "problem"),
    [
        (".", None, "3 results of sites\n.*expected: site = one of blue, green, red"),
        (".", "mauve", "no result of site 'mauve'"),
        ("fedgram/red", "blue", "no result of site 'blue'"),
        ("server", None, "0 results of sites"),
    ],
)
def test_what_is_not_there_is_named(where, site, problem, finished: Path):
    with pytest.raises(CheckpointError, match=problem):
        fedgram.load(finished / where, site=site)


@pytest.fixture
def red(finished: Path, tmp_path: Path) -> Path:
    """A copy of a result, to be damaged."""
    return Path(shutil.copytree(finished / "fedgram/red/result", tmp_path / "result"))


def edit(folder: Path, **changes: object) -> None:
    facts = json.loads((folder / "site.json").read_text())
    (folder / "site.json").write_text(json.dumps(facts | changes))


def test_a_damaged_result_is_named(red: Path):
    (red / "local.safetensors").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"(?s)local\.safetensors: damaged.*remedy: restore it"):
        fedgram.load(red)
    (red / "site.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"site\.json: damaged"):
        fedgram.load(red)


@pytest.mark.parametrize("found", [None, "2", 3])
def test_a_result_of_another_version_is_refused_before_its_settings_are_read(red: Path, found: object):
    """As 0.1.0 wrote it first: no format, and a setting that is gone."""
    facts = json.loads((red / "site.json").read_text())
    facts["job"]["training"]["adoption"] = 1.0
    edit(red, job=facts["job"], format=found)
    told = r"(?s)site\.json: saved by another version of fedgram.*expected: format 3.*remedy: .*run the job again"
    with pytest.raises(CheckpointError, match=told):
        fedgram.load(red)


@pytest.mark.parametrize(
    ("fact", "kind", "problem"),
    [
        ({"backbone": "0" * 64}, BackboneError, "on which this result was trained"),
        ({"tokenizers": ["0" * 64]}, CheckpointError, "other tokens than in the run"),
        ({"tokenizers": []}, CheckpointError, "not 1 tokenizers"),
        ({"task": {"kind": "Juggling"}}, FedgramError, "unknown task 'Juggling'"),
        ({"task": {"kind": "Classification", "classes": ["a"]}}, CheckpointError, "does not fit"),
    ],
)
def test_a_result_that_does_not_fit_is_not_used(fact, kind, problem, red: Path):
    edit(red, **fact)
    with pytest.raises(kind, match=problem):
        fedgram.load(red)


def test_data_are_read_only_where_a_tokenizer_is_fitted_on_them(red: Path):
    """The toy's tokenizer is not: the model works after its data are gone, and its own samples are asked for."""
    config = json.loads((red / "site.json").read_text())["site_config"]
    edit(red, site_config={**config, "data": "/nowhere/red.csv"})
    model = fedgram.load(red)
    assert model.predict([np.zeros(LENGTH, dtype=np.float32)])
    with pytest.raises((FedgramError, FileNotFoundError), match=r"/nowhere/red\.csv"):
        model.site.samples("test")


def test_the_commands(finished: Path, models: dict[str, Trained], tmp_path: Path):
    sample = own_samples(models["red"])[0]
    file = tmp_path / "x.csv"
    np.savetxt(file, sample.content[None], delimiter=",")
    red, blue = (str(finished / "fedgram" / name / "result") for name in ("red", "blue"))
    answer = models["red"].predict([sample.content])[0]
    for command, expected in (
        (["predict", red, str(file)], f"{max(answer.scores.values()):.3f}"),
        (["retrieve", red, blue, str(file), "-k", "2"], models["red"].retrieve([file], models["blue"])[0][0].id),
        (["classify", red, blue, str(file)], models["red"].classify([file], models["blue"])[0].concept),
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert expected in done.output
    failed = CliRunner().invoke(app, ["predict", str(tmp_path), str(file)])
    assert failed.exit_code == 1
    assert "CheckpointError" in failed.stderr
