"""Sites with a unified model in a federation: alone among themselves, and beside a site of one modality."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import blip3o_files
import pytest
import torch
from detector_models import write_clip, write_owl
from fedgram.config.site import read_site_config
from fedgram.config.unified import UnifiedConfig
from fedgram.data.items import Caption, Question
from fedgram.data.vqa import read_vqa
from fedgram.errors import BackboneError, CheckpointError, ConfigError, DataError
from fedgram.flare.outbound import DELTA
from fedgram.flare.process.worker import open_session
from fedgram.model import lora
from fedgram.model.unified import janus
from fedgram.model.unified.blip3o import model as blip3o
from fedgram.model.unified.loading import load_unified
from fedgram.results.trained import load_unified as load_result
from fedgram.scoring.geneval.exact import ExactDetector
from fedgram.scoring.geneval.open_vocabulary import OpenVocabularyDetector
from fedgram.sites.opening import reopen_site
from fedgram.sites.unified import UnifiedBatch
from fedgram.sites.unified_data import Items, split_items
from fedgram.training import geometry, rounds
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from fedgram.training.server import agree
from fedgram.training.session import SiteSession
from toy import write_site_file
from unified_toy import UnifiedToy, make


@pytest.fixture(autouse=True, scope="module")
def _answers_are_short() -> Iterator[None]:
    """Random weights never end an answer by themselves: of four tokens, where a site allows 32."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(janus, "_ANSWER_TOKENS", 4)
        patch.setattr(blip3o, "ANSWER_TOKENS", 4)
        yield


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> UnifiedToy:
    return make(tmp_path_factory.mktemp("unified"))


def first_state(federation: UnifiedToy):
    return agree([rounds.introduce(federation.open(name)) for name in federation.sites], federation.job)[0].state


@dataclass(frozen=True)
class Ran:
    """A run that came to its end."""

    outcome: Outcome
    sessions: dict[str, SiteSession]
    folder: Path


@pytest.fixture(scope="module")
def ran(federation: UnifiedToy, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Two that do both tasks, one that answers, one that makes pictures, and one site of another modality."""
    folder = tmp_path_factory.mktemp("ran")
    run = federation.with_job(training={"learning_rate": 0.05})  # so much that answers change
    sessions = run.sessions(folder / "sites")
    return Ran(run_federation(sessions, run.job, folder / "server"), sessions, folder)


def test_a_mixed_federation_trains_one_update(federation: UnifiedToy, ran: Ran):
    outcome = ran.outcome
    first = outcome.server.records[0]
    assert set(first.shares) == set(federation.sites)
    assert not first.rejected
    assert len(set(first.payload_bytes.values())) == 1  # the same layers everywhere
    assert all(norm > 0 for norm in first.update_norms.values())
    assert {name: outcome.server.modalities[name] for name in ("one", "makes")} == dict.fromkeys(
        ("one", "makes"), "unified"
    )
    validated = {name: set(metrics) & TASKS for name, metrics in first.metrics.items()}
    assert validated["one"] == validated["two"] == TASKS
    assert validated["answers"] == {"understanding_loss", "vqa_accuracy"}
    assert validated["makes"] == {"generation_loss"}
    assert validated["red"] == set()
    assert "accuracy" in first.metrics["red"]
    tested = {name: set(evaluation.metrics) for name, evaluation in outcome.together.items()}
    assert "geneval" in tested["one"]
    assert "geneval" not in tested["answers"]
    assert outcome.alone["one"].metrics["generation_loss"] != outcome.together["one"].metrics["generation_loss"]
    assert outcome.together["one"].gram.shape == outcome.together["red"].gram.shape == (12, 12)


TASKS = {"understanding_loss", "vqa_accuracy", "generation_loss"}


def test_a_run_that_is_interrupted_ends_with_the_same_bits(federation: UnifiedToy, tmp_path: Path):
    run = federation.only("one", "two").with_job(baseline=False)
    whole = run_federation(run.sessions(tmp_path / "a"), run.job, tmp_path / "server-a")

    class Interrupted(Exception):
        pass

    def stop(record):
        if record.round == 1:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_federation(run.sessions(tmp_path / "b"), run.job, tmp_path / "server-b", stop)
    assert Checkpoint(tmp_path / "server-b", run.job).load().state.round == 1
    resumed = run_federation(run.sessions(tmp_path / "b"), run.job, tmp_path / "server-b")
    for name, b in whole.server.state.B.items():
        assert torch.equal(resumed.server.state.B[name], b)
    assert resumed.together["one"].metrics == whole.together["one"].metrics
    assert torch.equal(resumed.together["two"].gram, whole.together["two"].gram)


def test_the_optimiser_goes_on_from_one_round_to_the_next(federation: UnifiedToy, tmp_path: Path):
    site = federation.only("one").open("one")
    session = SiteSession(site, tmp_path)
    state = agree([rounds.introduce(site)], federation.with_job(aggregation={"min_sites": 1}).job)[0].state
    session.train("run", state)
    session.train("run", dataclasses.replace(state, round=1))
    steps = {int(moments["step"]) for moments in site.optimizer.state_dict()["state"].values()}
    assert steps == {2 * federation.job.training.local_steps}


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("geo", {"dora": True, "magnitude": "mean"}),
        ("geo", {"dora": True, "magnitude": "private"}),
        ("fedit", {}),
        ("ffa", {}),
        ("fedprox", {}),
        ("flora", {}),
        ("fedex", {}),
        ("local", {}),
        ("per_modality", {}),
    ],
)
def test_other_methods_train_unified_sites(federation: UnifiedToy, tmp_path: Path, method: str, adapter: dict):
    run = federation.only("answers", "makes").with_job(
        method={"name": method}, adapter=adapter, baseline=False, training={"rounds": 1, "local_steps": 1}
    )
    allowed = {name: dataclasses.replace(config, methods=(method,)) for name, config in run.sites.items()}
    run = dataclasses.replace(run, sites=allowed)
    outcome = run_federation(run.sessions(tmp_path / "sites"), run.job, tmp_path / "server")
    assert set(outcome.server.records[0].shares) == {"answers", "makes"}


@pytest.mark.parametrize("method", ["creamfl", "fedproto", "fedsaf"])
def test_a_method_that_needs_labelled_samples_is_refused(federation: UnifiedToy, method: str):
    run = federation.with_job(method={"name": method})
    sites = {"one": dataclasses.replace(federation.sites["one"], methods=(method,))}
    with pytest.raises(ConfigError, match="needs no labelled"):
        dataclasses.replace(run, sites=sites).open("one")


def test_the_geometry_loss_draws_the_pictures_to_the_consensus(federation: UnifiedToy):
    """With the loss alone, CKA to the consensus of another model rises; without it the metric is not there."""
    run = federation.only("one", "red").with_job(
        training={"local_steps": 12, "geometry_weight": 20.0, "learning_rate": 5e-3}
    )
    state = first_state(run)
    before = geometry.anchor_alignment(
        run.open("one"), geometry.represent_anchors(run.open("one")), state.consensus
    )
    site = run.open("one")
    update = rounds.local_round(site, state)
    assert geometry.anchor_alignment(site, geometry.represent_anchors(site), state.consensus) > before
    assert "cka" in update.metrics
    assert "cka" not in rounds.local_round(federation.only("one").open("one"), state).metrics


def test_the_loss_of_a_site_is_that_of_its_model_on_its_items(federation: UnifiedToy):
    site = federation.open("one")
    data, rows = site.data["train"], torch.tensor([3, 0])
    questions = [data.items.questions[i] for i in rows.tolist()]
    model = load_unified(federation.job.backbone, site.config.backbones)
    from PIL import Image

    seen = model.see([Image.open(q.image) for q in questions])
    expected = model.understanding_loss(seen, [q.text for q in questions], [q.answer for q in questions])
    captions = [data.items.captions[i] for i in rows.tolist()]
    targets = model.targets([Image.open(c.image) for c in captions])
    made = model.generation_loss([c.text for c in captions], targets, torch.Generator().manual_seed(0))
    got = site.losses("train", UnifiedBatch(rows, rows, torch.Generator().manual_seed(0)))
    torch.testing.assert_close(got["understanding_loss"], expected)
    torch.testing.assert_close(got["generation_loss"], made)


def test_generation_weight_says_how_much_each_task_counts(federation: UnifiedToy):
    """The loss of the first step, before anything has changed, is that of both tasks so weighted."""
    run = federation.with_job(training={"local_steps": 1})
    state, found = first_state(run.only("one", "two")), {}
    for weight in (0.0, 1.0, 3.0):
        settings = dataclasses.replace(run.sites["one"].unified, generation_weight=weight)
        site = dataclasses.replace(run, sites={"one": dataclasses.replace(run.sites["one"], unified=settings)})
        found[weight] = rounds.local_round(site.open("one"), state).metrics["task_loss"]
    making = found[1.0] - found[0.0]
    assert making > 0
    assert found[3.0] == pytest.approx(found[0.0] + 3 * making, rel=1e-5)


def test_what_leaves_is_the_update_of_the_tower(federation: UnifiedToy):
    site = federation.open("one")
    update = rounds.local_round(site, first_state(federation))
    assert set(update.delta_B) == set(lora.spec(site.model.transformer))
    assert not update.extra
    assert not update.m
    assert all("lora" not in name and ".layers." in name for name in update.delta_B)
    assert DELTA.fields == ("delta_B/",)
    assert set(update.metrics) <= set(federation.job.metrics)


def test_the_result_answers_as_the_site_did(federation: UnifiedToy, ran: Ran, tmp_path: Path):
    shutil.copytree(ran.folder / "sites" / "one", tmp_path / "sites" / "one")
    site = ran.sessions["one"].site
    data = site.data["test"]
    seen = data.take(torch.arange(len(data.items.questions))).values
    texts, prompts = [q.text for q in data.items.questions], ["a photo of a red square"]
    loaded = load_result(tmp_path / "sites", "one")
    assert loaded.understand(seen, texts) == site.model.unified.understand(seen, texts)
    made = [
        m.generate(prompts, torch.Generator().manual_seed(1))[0].tobytes() for m in (loaded, site.model.unified)
    ]
    assert made[0] == made[1]
    base = load_unified(federation.job.backbone, site.config.backbones)
    answers = data.items.questions[0].answer
    assert base.understanding_loss(seen[:1], texts[:1], [answers]) != loaded.understanding_loss(
        seen[:1], texts[:1], [answers]
    )
    card = (tmp_path / "sites" / "one" / "result" / "adapter" / "README.md").read_text()
    assert "making pictures" in card
    assert "one" not in json.dumps(sorted(set(card.split()) & {"one.toml"}))
    with pytest.raises(CheckpointError, match="unified site"):
        reopen_site(tmp_path / "sites" / "one" / "result")
    (tmp_path / "sites" / "one" / "result" / "local.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="damaged"):
        load_result(tmp_path / "sites" / "one" / "result")


def test_it_keeps_the_federations_model_whatever_home_is_worth(federation: UnifiedToy, ran: Ran):
    outcome = ran.outcome
    assert set(outcome.alone) == set(federation.sites)
    kept = {"kept_home": 0.0, "kept_together": 1.0, "kept_directory": 0.0, "kept_frozen": 0.0}
    for name in ("one", "two", "answers", "makes"):
        assert outcome.kept[name].metrics == {**outcome.together[name].metrics, **kept}
    told = json.loads((ran.folder / "sites" / "one" / "result" / "kept.json").read_text())
    assert told["why"] == "together: answers of unified models cannot be averaged"
    site = ran.sessions["one"].site
    assert site.validation_loss() is None  # no round is chosen: home and together end with their last ones


def test_the_result_of_a_site_of_one_modality_is_refused(finished: Path):
    with pytest.raises(ConfigError, match=r"no \[unified\] table"):
        load_result(finished / "fedgram" / "red" / "result")


def test_the_worker_opens_a_unified_site_from_its_file(federation: UnifiedToy, tmp_path: Path):
    write_site_file(tmp_path / "fedgram" / "one.toml", federation.sites["one"])
    session = open_session("one", tmp_path, tmp_path / "state", "unified", federation.job)
    assert session.introduce().modality == "unified"
    with pytest.raises(ConfigError, match="modality 'unified'"):
        open_session("one", tmp_path, tmp_path / "state", "image", federation.job)


# errors of a site file and of data


def written(folder: Path, text: str) -> Path:
    path = folder / "site.toml"
    path.write_text(f'modality = "unified"\nanchors = "/a"\n{text}')
    return path


def test_a_site_file_with_only_what_a_unified_site_needs_is_read(tmp_path: Path):
    config = read_site_config(written(tmp_path, '[unified]\ncaptions = "/c.jsonl"\n'))
    assert config.unified == UnifiedConfig(captions="/c.jsonl")
    assert config.tokenizer == config.data == ""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "without a"),
        ("[unified]\n", "neither questions nor captions"),
        ('[unified]\ncaptions = "c.jsonl"\n', "unified.captions is a relative path"),
        ('[unified]\ncaptions = "/c"\ngeneration_weight = -1.0\n', "generation_weight"),
        ('[unified]\ncaptions = "/c"\ndrift_weight = inf\n', "drift_weight"),
        ('[unified]\ncaptions = "/c"\nanchors = "/b"\n', "stands below"),
        ('[unified]\ncaption = "/c"\n', "unknown setting 'caption'"),
    ],
)
def test_a_wrong_site_file_is_refused(tmp_path: Path, text: str, problem: str):
    with pytest.raises(ConfigError, match=problem):
        read_site_config(written(tmp_path, text))


@pytest.mark.parametrize("lacking", ["data", "tokenizer"])
def test_a_site_of_one_modality_needs_data_and_a_tokenizer(tmp_path: Path, lacking: str):
    settings = {"modality": "text", "anchors": "/a", "data": "/d", "tokenizer": "minilm"}
    path = tmp_path / "site.toml"
    path.write_text("\n".join(f'{k} = "{v}"' for k, v in settings.items() if k != lacking))
    with pytest.raises(ConfigError, match=f"missing setting '{lacking}'"):
        read_site_config(path)
    path.write_text("\n".join(f'{k} = "{v}"' for k, v in settings.items()) + '\n[unified]\ncaptions = "/c"\n')
    with pytest.raises(ConfigError, match=r"modality 'text' with a \[unified\] table"):
        read_site_config(path)


def item(kind: type, picture: str, split: str = "", number: str = "1"):
    rest = {"answers": ("red",), "answer": "red", "kind": "other"} if kind is Question else {}
    return kind(id=number, image=Path(picture), text="what?", split=split, **rest)


def test_all_that_is_about_a_picture_is_on_one_side_of_the_split():
    questions = tuple(item(Question, f"{i // 3}.png", number=str(i)) for i in range(60))
    captions = tuple(item(Caption, f"{i}.png", number=str(i)) for i in range(20))
    parts = split_items(Items(questions, captions))
    sides = [{i.image for i in (*part.questions, *part.captions)} for part in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides)) == 20
    assert all(sides)
    assert sum(map(len, parts.values())) == 80


def test_a_copy_of_the_data_is_split_alike():
    def split_in(folder: str) -> list[list[str]]:
        questions = tuple(item(Question, f"{folder}/train/{i}.png", number=str(i)) for i in range(30))
        return [[q.id for q in part.questions] for part in split_items(Items(questions, ())).values()]

    assert split_in("/here") == split_in("/elsewhere/below")


def test_a_picture_in_two_splits_is_refused():
    items = Items((item(Question, "a.png", "train"),), (item(Caption, "a.png", "test"),))
    with pytest.raises(DataError, match="'train' and 'test'"):
        split_items(items)


def test_a_checkpoint_that_is_no_unified_model_is_refused(federation: UnifiedToy):
    tiny = {"tiny": str(federation.root / "toy" / "tiny")}
    with pytest.raises(BackboneError, match="'bert'"):
        load_unified(federation.job.backbone, tiny)


def test_a_job_with_held_out_anchors_needs_them_at_the_site(federation: UnifiedToy):
    sites = {"one": dataclasses.replace(federation.sites["one"], heldout=None)}
    with pytest.raises(ConfigError, match="no held-out anchors"):
        dataclasses.replace(federation, sites=sites).open("one")


def test_a_site_without_pictures_is_refused(federation: UnifiedToy, tmp_path: Path):
    folder = tmp_path / "vqa"
    shutil.copytree(federation.sites["one"].unified.questions, folder)
    for picture in read_vqa(folder)[:1]:
        picture.image.unlink()
    settings = UnifiedConfig(str(folder))
    sites = {"one": dataclasses.replace(federation.sites["one"], unified=settings)}
    with pytest.raises(DataError, match="missing"):
        dataclasses.replace(federation, sites=sites).open("one")


def test_a_blip3o_checkpoint_trains_at_a_unified_site_as_well(federation: UnifiedToy, tmp_path: Path):
    folder = blip3o_files.write(tmp_path / "blip3o")
    run = federation.only("answers", "makes").with_job(
        backbone={"name": "blip3o"}, baseline=False, training={"rounds": 1, "local_steps": 1, "batch_size": 2}
    )
    sites = {name: dataclasses.replace(c, backbones={"blip3o": str(folder)}) for name, c in run.sites.items()}
    run = dataclasses.replace(run, sites=sites)
    outcome = run_federation(run.sessions(tmp_path / "sites"), run.job, tmp_path / "server")
    assert set(outcome.server.records[0].shares) == {"answers", "makes"}
    assert "vqa_accuracy" in outcome.together["answers"].metrics
    assert "generation_loss" in outcome.together["makes"].metrics


def test_a_site_s_own_detector_looks_at_what_it_makes(federation: UnifiedToy, tmp_path: Path):
    finder, clip = str(write_owl(tmp_path / "owl", 2)), str(write_clip(tmp_path / "clip"))
    changed = looking_with(federation, detector=finder, colours=clip)
    site = changed.open("one")
    assert isinstance(site.detector, OpenVocabularyDetector)
    found = site.evaluate("test")
    scenes = replace(site, detector=ExactDetector()).evaluate("test")
    assert found["geneval"] != scenes["geneval"]
    assert found["vqa_accuracy"] == scenes["vqa_accuracy"]
    with pytest.raises(BackboneError, match="detector"):
        looking_with(federation, detector=str(tmp_path / "none"), colours=clip).open("one")


def looking_with(federation: UnifiedToy, **settings: str) -> UnifiedToy:
    config = federation.sites["one"]
    unified = replace(config.require_unified(), **settings)
    return replace(federation, sites={**federation.sites, "one": replace(config, unified=unified)})
