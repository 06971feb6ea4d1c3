"""The directory of concepts: what a site publishes, what the server takes, how a sample is named by it alone."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import fedgram
import numpy as np
import pytest
import torch
from fedgram.cli.main import app
from fedgram.core.directory import from_tensors
from fedgram.core.gram import cosine_gram
from fedgram.core.relative import anchor_coordinates
from fedgram.errors import CheckpointError, ConfigError, UpdateRejected
from fedgram.flare import wire
from fedgram.model.site_model import masked_mean
from fedgram.records import GlobalState, SiteEvaluation
from fedgram.results import report
from fedgram.sites.settled import DIRECTORY, Kept, read_directory, write_directory
from fedgram.training import contracts
from fedgram.training.directory import answerable, logits, merged, published
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from fedgram.training.settle import settle
from some_records import assert_same
from torch import Tensor
from toy import CONCEPTS, Toy
from typer.testing import CliRunner


def sharing(toy: Toy, *names: str) -> Toy:
    """A federation in which green never saw a label of rye, and these sites share their concepts."""
    green = dataclasses.replace(toy.sites["green"], concepts=("oak", "pine", "moss"))
    sites = {**toy.sites, "green": green}
    return dataclasses.replace(
        toy, sites={k: dataclasses.replace(s, share=("concepts",) if k in names else ()) for k, s in sites.items()}
    )


@pytest.fixture(scope="module")
def ran(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """A run in which red alone shares its concepts."""
    folder, run = tmp_path_factory.mktemp("directory"), sharing(toy, "red")
    outcome = run_federation(run.sessions(folder / "fedgram"), run.job, folder / "state")
    report.write(folder / "server", outcome, run.job)
    return folder, outcome


def test_a_prototype_is_the_mean_of_a_sites_own_training_samples(toy: Toy):
    site = sharing(toy, "blue").open("blue")
    (found, gram), data = published(site), site.data["train"]
    assert list(found) == ["oak", "pine", "rye"]  # blue has no sample of moss
    tokens = [masked_mean(t.values, t.mask) for t in (data.tokens, site.anchors.tokens)]
    z, anchors = (part - tokens[1].mean(0) for part in tokens)
    rows = [i for i, concept in enumerate(data.concepts) if concept == "pine"]
    torch.testing.assert_close(found["pine"], anchor_coordinates(z[rows], anchors).mean(0))
    assert found["pine"].shape == (9,)
    torch.testing.assert_close(gram, cosine_gram(anchors))
    nothing, empty = published(toy.open("blue"))
    assert (nothing, tuple(empty.shape)) == ({}, (0, 0))


def test_concepts_of_fewer_than_ten_samples_are_not_sent(toy: Toy):
    site = sharing(toy, "red").open("red")
    data = site.data["train"]
    few = [concept if concept != "oak" or i < 9 else "" for i, concept in enumerate(data.concepts)]
    scarce = dataclasses.replace(site, data={**site.data, "train": dataclasses.replace(data, concepts=few)})
    assert few.count("oak") <= 9 < few.count("rye")
    assert set(published(scarce)[0]) == {"pine", "rye", "moss"}


def test_only_who_shares_sends_and_all_are_given_what_was_merged(ran: tuple[Path, Outcome], toy: Toy):
    folder, outcome = ran
    assert {name for name, e in outcome.together.items() if e.prototypes} == {"red"}
    assert {name for name, e in outcome.together.items() if len(e.token_gram)} == {"red"}
    assert all(not e.prototypes for part in (outcome.alone, outcome.kept) for e in part.values())
    assert outcome.directory is not None
    assert [concept for _, concept in outcome.directory.prototypes] == sorted(CONCEPTS)
    for place in (folder / "server", *(folder / "fedgram" / name / "result" for name in toy.sites)):
        assert_same(outcome.directory, read_directory(place))


def test_a_site_that_was_not_there_in_round_0_takes_no_part(ran: tuple[Path, Outcome], toy: Toy):
    red = ran[1].together["red"]
    found = merged({"red": red, "late": red}, {"red": "red"}, toy.job)
    assert found is not None
    assert {modality for modality, _ in found.prototypes} == {"red"}


def test_a_site_names_a_concept_that_only_others_have_labels_of_from_its_own_folder_alone(
    ran: tuple[Path, Outcome], toy: Toy, tmp_path: Path
):
    alone = Path(shutil.copytree(ran[0] / "fedgram" / "green" / "result", tmp_path / "result"))
    green = fedgram.load(alone)
    rye = [s.content for s in green.site.samples("test") if s.concept == "rye"]
    assert "rye" not in green.site.task.classes
    assert np.mean([match.concept == "rye" for match in green.classify(rye)]) > 0.7
    file = str(Path(toy.sites["green"].heldout or "") / "green" / "6.csv")
    found = CliRunner().invoke(app, ["classify", str(alone), file])
    assert found.exit_code == 0, found.output
    assert "rye" in found.output
    red = str(ran[0] / "fedgram" / "red" / "result")
    found = CliRunner().invoke(app, ["classify", str(alone), red, file])
    assert found.exit_code == 0, found.output
    assert "rye" in found.output


def test_without_a_directory_a_teacher_is_asked_for(finished: Path):
    model = fedgram.load(finished, site="green")
    with pytest.raises(CheckpointError, match=r"(?s)no directory of concepts.*remedy: let sites share theirs"):
        model.classify([model.site.samples("test")[0].content])


# --- in the mixture


def test_a_directory_takes_part_where_it_has_all_classes(ran: tuple[Path, Outcome], toy: Toy):
    site, directory = toy.open("blue"), ran[1].directory
    assert directory is not None
    assert answerable(site, directory)
    fewer = {key: values for key, values in directory.prototypes.items() if key[1] != "rye"}
    assert not answerable(site, dataclasses.replace(directory, prototypes=fewer))
    assert not answerable(site, None)
    data = site.data["validation"]
    found = logits(site, directory, data.tokens)
    assert found.shape == (len(data), 3)
    assert found.abs().max() <= 10


def test_a_directory_that_knows_better_is_kept_and_predicts(toy: Toy, ran: tuple[Path, Outcome], tmp_path: Path):
    """Home and together have untrained heads; the directory has the concepts' places among the anchors."""
    result = tmp_path / "result"
    site = toy.open("red")
    for name in ("result", "alone"):
        site.save(tmp_path / name, {})
    prototypes, gram = published(sharing(toy, "red").open("red"))
    speaks = dataclasses.replace(ran[1].together["red"], prototypes=prototypes, token_gram=gram)
    directory = merged({"red": speaks}, {"red": "another modality"}, toy.job)
    metrics = settle(site, result, tmp_path / "alone", directory, regression=False).metrics
    assert metrics["kept_directory"] > 0
    assert metrics["gain"] > 0
    model = fedgram.load(result)
    asked = model.site.samples("test")
    answers = model.predict([s.content for s in asked])
    right = np.mean([a.value == s.concept for a, s in zip(answers, asked, strict=True)])
    assert right == pytest.approx(metrics["accuracy"], abs=1e-6)
    only = dataclasses.replace(model, kept=Kept.alone(DIRECTORY, "a test"))
    named = only.classify([s.content for s in asked])
    assert [a.value for a in only.predict([s.content for s in asked])] == [match.concept for match in named]
    for damage, told in (
        (lambda path: path.write_bytes(path.read_bytes()[:-9]), "damaged"),
        (lambda path: path.unlink(), "damaged"),
    ):
        damage(result / "directory.safetensors")
        with pytest.raises(CheckpointError, match=rf"directory\.safetensors: {told}"):
            fedgram.load(result)


def test_a_run_without_a_directory_takes_an_old_one_away(toy: Toy, ran: tuple[Path, Outcome], tmp_path: Path):
    result = Path(shutil.copytree(ran[0] / "fedgram" / "red" / "result", tmp_path / "result"))
    settle(toy.open("red"), result, None, None)
    assert not (result / "directory.safetensors").exists()
    assert fedgram.load(result).directory is None


# --- what the server takes, and a site


def changed(change: Callable[[dict[str, Tensor]], object]) -> Callable[[SiteEvaluation], SiteEvaluation]:
    def changing(reply: SiteEvaluation) -> SiteEvaluation:
        found = {name: values.clone() for name, values in reply.prototypes.items()}
        change(found)
        return dataclasses.replace(reply, prototypes=found)

    return changing


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda p: p.update({str(i): p["oak"] for i in range(1000)}), "prototypes of 1004 concepts.*at most 1000"),
        (lambda p: p.update({"x" * 201: p["oak"]}), "name of concept 4.*1 to 200 printable"),
        (lambda p: p.update({"": p["oak"]}), "name of concept 4"),
        (lambda p: p.update({"a\u202eb\n": p["oak"]}), "name of concept 4"),
        (lambda p: p.update(oak=p["oak"][:-1]), r"prototype of 'oak'.*\(12,\)"),
        (lambda p: p.update(oak=p["oak"].double()), "prototype of 'oak'.*float32"),
        (lambda p: p["oak"].fill_(float("nan")), "prototype of 'oak' has values that are not finite"),
        (lambda p: p["oak"].fill_(float("inf")), "not finite"),
        (lambda p: p["oak"].fill_(-2.001), "prototype of 'oak': numbers that are no cosines"),
    ],
)
def test_a_prototype_that_breaks_the_contract_is_refused(ran: tuple[Path, Outcome], toy: Toy, change, told: str):
    good = ran[1].together["red"]
    contracts.check_evaluation(good, toy.job)
    contracts.check_evaluation(changed(lambda p: p["oak"].fill_(2.0))(good), toy.job)
    with pytest.raises(UpdateRejected, match=rf"(?s)red: .*{told}"):
        contracts.check_evaluation(changed(change)(good), toy.job)


@pytest.mark.parametrize(
    ("gram", "told"),
    [
        (torch.zeros(0, 0), r"Gram of shape .*\(12, 12\)"),
        (torch.full((12, 12), 2.0), "unit diagonal"),
        (torch.eye(11), "Gram of shape"),
    ],
)
def test_prototypes_without_a_gram_of_their_anchors_are_refused(
    ran: tuple[Path, Outcome], toy: Toy, gram, told: str
):
    with pytest.raises(UpdateRejected, match=rf"(?s)red: .*{told}"):
        contracts.check_evaluation(dataclasses.replace(ran[1].together["red"], token_gram=gram), toy.job)


def test_prototypes_over_one_anchor_are_refused(ran: tuple[Path, Outcome], toy: Toy):
    """They would have no place in the frame, and the server would end on them."""
    red = ran[1].together["red"]
    alone = dataclasses.replace(
        red,
        slots=red.slots[:1],
        heldout_slots=(),
        gram=red.gram[:1, :1],
        prototypes={"oak": red.prototypes["oak"][:1]},
        token_gram=red.token_gram[:1, :1],
    )
    with pytest.raises(UpdateRejected, match=r"(?s)red: prototypes over one anchor"):
        contracts.check_evaluation(alone, toy.job)


def test_a_gram_without_prototypes_is_refused(ran: tuple[Path, Outcome], toy: Toy):
    reply = dataclasses.replace(ran[1].together["green"], token_gram=torch.eye(12))
    with pytest.raises(UpdateRejected, match=r"(?s)green: a Gram \(12, 12\) of no prototypes"):
        contracts.check_evaluation(reply, toy.job)


@pytest.mark.parametrize(
    "tensors",
    [
        {"places": torch.zeros(11, 11)},
        {"places": torch.zeros(12, 12), "red/oak": torch.zeros(11)},
        {"places": torch.zeros(12, 12), "red/oak": torch.zeros(12, dtype=torch.float64)},
        {"places": torch.zeros(12, 12), "red/oak": torch.full((12,), float("nan"))},
        {"places": torch.zeros(12, 12), "red/\x1b[2J": torch.zeros(12)},
        {"places": torch.zeros(12, 12), "\n/oak": torch.zeros(12)},
        {"places": torch.zeros(12, 12), "oak": torch.zeros(12)},
        {"places": torch.zeros(12, 12)},
        {"red/oak": torch.zeros(12)},
    ],
)
def test_a_directory_of_another_form_is_refused_at_the_site(tensors: dict[str, Tensor]):
    with pytest.raises(ConfigError, match="task: directory"):
        from_tensors(tensors, 12)


def test_a_name_is_no_markup_of_the_terminal(ran: tuple[Path, Outcome], toy: Toy, tmp_path: Path):
    result = Path(shutil.copytree(ran[0] / "fedgram" / "green" / "result", tmp_path / "result"))
    found = read_directory(result)
    renamed = {(m, "[/rye]" if name == "rye" else name): values for (m, name), values in found.prototypes.items()}
    write_directory(result, dataclasses.replace(found, prototypes=renamed))
    file = str(Path(toy.sites["green"].heldout or "") / "green" / "6.csv")
    found = CliRunner().invoke(app, ["classify", str(result), file])
    assert found.exit_code == 0, found.output
    assert "[/rye]" in found.output


def test_a_directory_travels_with_its_task(ran: tuple[Path, Outcome], toy: Toy):
    server, found = ran[1].server, ran[1].directory
    assert found is not None
    directory = dataclasses.replace(found, prototypes={**found.prototypes, ("red", "a/b"): torch.zeros(12)})
    task = wire.encode_task(toy.job, server.run, server.state, directory)
    run, state = wire.decode_state(task)
    assert isinstance(state, GlobalState)
    assert run == server.run
    assert_same(server.state, state)
    assert_same(directory, wire.decode_directory(task, 12))
    assert wire.decode_directory(wire.encode_task(toy.job, server.run, server.state), 12) is None
    reply = ran[1].together["red"]
    assert_same(reply, wire.decode_reply(SiteEvaluation, "red", wire.encode_reply(reply)))
