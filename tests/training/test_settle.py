"""What a site keeps in the end: home, unless its own validation groups prefer something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fedgram
import numpy as np
import pytest
import torch
from fedgram.errors import CheckpointError
from fedgram.files import write_tensors
from fedgram.model.tasks.labels import Classification
from fedgram.model.tasks.regression import Regression
from fedgram.records import LabelledTokens, Tokens
from fedgram.sites.kept import read_trained, trained_state
from fedgram.sites.settled import COMPONENTS, DIRECTORY, FROZEN, HOME, TOGETHER, Kept
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from fedgram.training.session import SiteSession
from fedgram.training.settle import gain_over, prefer, settle
from some_records import assert_same
from torch import Tensor
from toy import Toy

OWN = ("accuracy", "macro_f1", "auroc")
CLASSES = Classification(("a", "b"))


def labelled(targets: Tensor, groups: list[str]) -> LabelledTokens:
    nothing = Tokens(torch.zeros(len(targets), 1, 1), torch.ones(len(targets), 1).bool())
    return LabelledTokens(tokens=nothing, targets=targets, concepts=[""] * len(targets), groups=groups)


def says(probabilities: list[float]) -> Tensor:
    """Logits of so much probability of the second class."""
    p = torch.tensor(probabilities)
    return torch.stack([(1 - p).log(), p.log()], dim=1)


DATA = labelled(torch.tensor([1, 1, 1, 1]), ["p", "p", "q", "r"])


@pytest.mark.parametrize(
    ("together", "kept"),
    [
        ([0.9, 0.9, 0.9, 0.9], 1.0),  # better everywhere
        ([0.5, 0.5, 0.5, 0.5], 0.0),  # as good
        ([0.1, 0.1, 0.1, 0.1], 0.0),
        ([0.9, 0.9, 0.9, 0.01], 0.25),  # better in two groups, far off in one: by hand below
        ([float("nan")] * 4, 0.0),
    ],
)
def test_a_preference_by_hand(together: list[float], kept: float):
    """Home says ½: its loss is log 2 in every group.

    With .9, .9 and .01 the mixture of a quarter says .6, .6 and .3775, of a half .7, .7 and .255: losses .6653,
    .6929 (means), home .6931. The first is better by .028, with a standard error of .154: home is kept.
    """
    found = prefer(CLASSES, {HOME: says([0.5] * 4), TOGETHER: says(together)}, DATA)
    expected = 0.0 if kept == 0.25 else kept
    assert found.weights == {**dict.fromkeys(COMPONENTS, 0.0), HOME: 1 - expected, TOGETHER: expected}
    assert found.groups == 3
    assert found.losses["kept"] == found.losses[TOGETHER if expected else HOME]
    assert ("below home's" in found.why) == bool(expected)


def test_a_mixture_is_kept_where_two_models_err_apart():
    """One is sure of the first half and wrong about the second, the other the reverse: ½ and ½ err least."""
    truth = labelled(torch.ones(40, dtype=torch.long), [str(i) for i in range(40)])
    halves = [0.95] * 20 + [0.2] * 20
    found = prefer(CLASSES, {HOME: says(halves), TOGETHER: says(halves[::-1])}, truth)
    assert (found.weights[HOME], found.weights[TOGETHER]) == (0.5, 0.5)
    assert found.losses["kept"] < min(found.losses[HOME], found.losses[TOGETHER])
    assert found.losses["kept"] == pytest.approx(-np.log(0.575), abs=1e-5)


@pytest.mark.parametrize(
    ("home", "frozen", "together", "kept"),
    [
        ([0.5, 0.5, 0.5, 0.5], [0.7, 0.7, 0.5, 0.45], [0.5] * 4, HOME),  # lower, by less than an error
        ([0.6, 0.6, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.5] * 4, HOME),
        ([0.5, 0.5, 0.5, 0.5], [0.5, 0.5, 0.5, 0.5], [0.4] * 4, HOME),  # as good
        ([0.5, 0.5, 0.5, 0.5], [0.8, 0.8, 0.8, 0.8], [0.7] * 4, FROZEN),  # together beats home, and not this
        ([0.5, 0.5, 0.5, 0.5], [0.7, 0.7, 0.7, 0.7], [0.8] * 4, TOGETHER),
        ([float("nan")] * 4, [0.4] * 4, [0.3] * 4, FROZEN),
    ],
)
def test_home_is_to_be_beaten_by_the_regression_too(home, frozen, together, kept: str):
    """In the first case the regression loses .357, .693 and .799 by group, home .693: it is .077 ± .133 better."""
    found = prefer(CLASSES, {HOME: says(home), TOGETHER: says(together), FROZEN: says(frozen)}, DATA)
    assert found.weights == {**dict.fromkeys(COMPONENTS, 0.0), kept: 1.0}
    assert (found.standard_error is None) == (kept == HOME or np.isnan(home[0]))


def test_many_samples_of_one_patient_count_once():
    """Better in nine samples of one patient, worse in one of each of the others."""
    targets, groups = torch.ones(12, dtype=torch.long), ["p"] * 9 + ["q", "r", "s"]
    answers = {HOME: says([0.5] * 12), TOGETHER: says([0.9] * 9 + [0.3] * 3)}
    assert prefer(CLASSES, answers, labelled(targets, groups)).weights[HOME] == 1
    assert prefer(CLASSES, answers, labelled(targets, [str(i) for i in range(12)])).weights[HOME] < 1


@pytest.mark.parametrize("groups", [[], ["p"] * 4])
def test_fewer_than_two_groups_prefer_nothing(groups: list[str]):
    data = labelled(torch.ones(len(groups), dtype=torch.long), groups)
    found = prefer(CLASSES, {HOME: says([0.1] * len(groups)), TOGETHER: says([0.9] * len(groups))}, data)
    count = len(set(groups))
    assert found == Kept.alone(HOME, f"home: {count} validation groups, and it takes two to prefer another", count)


def test_the_gain_by_hand():
    """Home is right of none; what is kept of one of two in p, one of one in q, none in r: ½, 1, 0."""
    found = gain_over(says([0.1] * 4), says([0.9, 0.1, 0.9, 0.1]), CLASSES, DATA)
    assert found == {"gain": 0.5, "gain_se": pytest.approx(0.5 / 3**0.5)}
    assert gain_over(says([0.1]), says([0.9]), CLASSES, labelled(torch.tensor([1]), ["p"])) == {"gain": 1.0}
    numbers = labelled(torch.zeros(4), DATA.groups)
    assert gain_over(torch.zeros(4, 1), torch.zeros(4, 1), Regression(0.0, 1.0), numbers) == {}


# --- with real sites


@pytest.fixture(scope="module")
def ran(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    folder = tmp_path_factory.mktemp("settled")
    return folder, run_federation(toy.sessions(folder), toy.job, folder / "server")


@pytest.fixture(scope="module")
def red(toy: Toy) -> SingleSite:
    return toy.open("red")


@pytest.fixture
def copied(ran: tuple[Path, Outcome], tmp_path: Path) -> Path:
    """The run's folder of red, to be tampered with."""
    (run,) = (ran[0] / "red").glob("run-*")
    return Path(shutil.copytree(run, tmp_path / "red" / run.name))


def spoiled(site: SingleSite, folder: Path, change: Callable[[str, Tensor], Tensor]) -> None:
    """Let a model that was kept be another one."""
    tensors = read_trained(folder)
    write_tensors(folder / "local.safetensors", {name: change(name, t) for name, t in tensors.items()})


def noise(name: str, tensor: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(len(name))
    return torch.randn(tensor.shape, generator=generator) if name.startswith(("B/", "local/head")) else tensor


def wrong_labels(name: str, tensor: Tensor) -> Tensor:
    return tensor.roll(1, dims=0) if name.startswith("local/head") else tensor


def diverged(name: str, tensor: Tensor) -> Tensor:
    return torch.full_like(tensor, float("nan")) if name.startswith("B/") else tensor


def test_every_site_is_no_worse_than_home_on_its_validation_groups(ran: tuple[Path, Outcome], toy: Toy):
    folder, outcome = ran
    assert set(outcome.kept) == set(toy.sites)
    for name, evaluation in outcome.kept.items():
        kept = json.loads((folder / name / "result" / "kept.json").read_text())
        metrics = evaluation.metrics
        assert kept["losses"]["kept"] <= kept["losses"][HOME]
        assert kept["groups"] == len(toy.open(name).data["validation"].groups)
        assert sum(metrics[f"kept_{c}"] for c in COMPONENTS) == 1
        assert {c: metrics[f"kept_{c}"] for c in COMPONENTS} == kept["weights"]
        assert kept["losses"]["kept"] <= kept["losses"][FROZEN]
        assert metrics["gain"] == pytest.approx(metrics["accuracy"] - outcome.alone[name].metrics["accuracy"])
        assert_same(evaluation.gram, outcome.together[name].gram)
        assert (folder / name / "result" / "home").exists() == (kept["weights"][HOME] > 0)
        assert (folder / name / "result" / "frozen.safetensors").exists() == (kept["weights"][FROZEN] > 0)
    assert any(evaluation.metrics["kept_frozen"] > 0 for evaluation in outcome.kept.values())


@pytest.mark.parametrize("broken", [noise, wrong_labels, diverged])
def test_a_broken_federation_costs_nothing(red: SingleSite, ran, copied: Path, broken):
    spoiled(red, copied / "result", broken)
    evaluation = settle(red, copied / "result", copied / "alone", regression=False)
    assert evaluation.metrics["kept_home"] == 1
    assert evaluation.metrics["gain"] == 0
    home = ran[1].alone["red"].metrics
    assert {name: evaluation.metrics[name] for name in OWN} == {name: home[name] for name in OWN}


@pytest.mark.parametrize("broken", [noise, wrong_labels, diverged])
def test_a_federation_that_helps_is_kept(red: SingleSite, ran, copied: Path, broken):
    spoiled(red, copied / "alone", broken)
    metrics = settle(red, copied / "result", copied / "alone", regression=False).metrics
    assert metrics["kept_together"] > 0
    assert metrics["gain"] > 0
    assert metrics["accuracy"] >= ran[1].together["red"].metrics["accuracy"] - 0.05


def test_what_is_kept_does_not_depend_on_the_process(toy: Toy, ran: tuple[Path, Outcome], tmp_path: Path):
    """Another process after each task, and one in which EVALUATE and ALONE never came to an end."""
    folder, outcome = ran
    state, run = outcome.server.state, outcome.server.run
    shutil.copytree(folder / "red", tmp_path / "red")
    for lost in ([], ["alone"], ["result"], ["alone", "result"]):
        for name in lost:
            shutil.rmtree(tmp_path / "red" / f"run-{run}" / name)
        again = SiteSession(toy.open("red"), tmp_path / "red").settle(run, state)
        assert_same(again, outcome.kept["red"])
        for name in ("kept.json", "site.json", "local.safetensors"):
            kept = (tmp_path / "red" / "result" / name).read_bytes()
            assert kept == (folder / "red" / "result" / name).read_bytes()


def test_training_alone_ends_at_the_round_of_least_validation_loss(toy: Toy, monkeypatch: pytest.MonkeyPatch):
    site, seen, losses = toy.open("red"), [], []

    def validation_loss(self: SingleSite) -> float | None:
        seen.append(trained_state(self))
        return losses[len(seen) - 1]

    monkeypatch.setattr(SingleSite, "validation_loss", validation_loss)
    for given, best in (
        ([3.0, 1.0, 2.0], 1),
        ([1.0, 1.0, 1.0], 0),
        ([float("nan"), 3.0, 2.0], 2),
        ([None] * 3, 2),
        ([float("nan")] * 3, 2),
    ):
        seen.clear()
        losses[:] = given
        rounds.train_alone(site)
        assert len(seen) == 3
        assert_same(trained_state(site), seen[best])


def test_the_validation_loss_is_that_of_the_task(red: SingleSite):
    data = red.data["validation"]
    expected = red.task.loss(red.model(data.tokens), data.targets).item()
    assert red.validation_loss() == pytest.approx(expected, rel=1e-5)
    assert replace(red, data={**red.data, "validation": labelled(torch.zeros(0), [])}).validation_loss() is None


def test_without_training_alone_the_federations_model_is_kept(toy: Toy, tmp_path: Path):
    run = toy.with_job(baseline=False, training={"rounds": 1})
    outcome = run_federation(run.sessions(tmp_path), run.job, tmp_path / "server")
    for name, evaluation in outcome.kept.items():
        expected = {
            "kept_home": 0.0,
            "kept_together": 1.0,
            "kept_directory": 0.0,
            "kept_frozen": 0.0,
            **outcome.together[name].metrics,
        }
        assert evaluation.metrics == expected
    assert "trains no site alone" in fedgram.load(tmp_path, site="red").kept.why


# --- the result in use


@pytest.fixture
def half(red: SingleSite, copied: Path) -> Path:
    """The result of a site that keeps one half of home."""
    settle(red, copied / "result", copied / "alone", regression=False)
    kept = json.loads((copied / "result" / "kept.json").read_text())
    kept["weights"] = {HOME: 0.5, TOGETHER: 0.5, DIRECTORY: 0.0, FROZEN: 0.0}
    (copied / "result" / "kept.json").write_text(json.dumps(kept))
    home = copied / "result" / "home"
    home.mkdir(exist_ok=True)
    shutil.copy(copied / "alone" / "local.safetensors", home)
    return copied / "result"


def test_the_mixture_predicts_and_the_federations_model_represents(half: Path, red: SingleSite):
    contents = [s.content for s in red.samples("test")]
    mixture, home = fedgram.load(half), fedgram.load(half.parent / "alone")
    together = replace(mixture, kept=Kept.alone(TOGETHER, "a test"))
    for _ in range(2):  # the federation's model is back in its place
        answers, one, other = (model.predict(contents) for model in (mixture, home, together))
        for answer, first, second in zip(answers, one, other, strict=True):
            for name, score in answer.scores.items():
                assert score == pytest.approx((first.scores[name] + second.scores[name]) / 2, abs=1e-6)
        assert torch.equal(mixture.embed(contents), together.embed(contents))
    assert (mixture.embed(contents) - home.embed(contents)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"weight": torch.zeros(4, 15), "bias": torch.zeros(4)}, "a regression on other tokens"),
        ({"weight": torch.zeros(4, 16)}, r"frozen\.safetensors: damaged \(no 'bias'\)"),
    ],
)
def test_a_regression_that_does_not_fit_is_refused(half: Path, tensors: dict[str, Tensor], told: str):
    weighing(0.0, 0.5, 0.0, 0.5)(half)
    write_tensors(half / "frozen.safetensors", tensors)
    with pytest.raises(CheckpointError, match=told):
        fedgram.load(half)


def test_what_is_loaded_scores_what_the_site_reported(toy: Toy, ran: tuple[Path, Outcome]):
    for name, evaluation in ran[1].kept.items():
        model = fedgram.load(ran[0], site=name)
        asked = model.site.samples("test")
        answers = model.predict([s.content for s in asked])
        right = np.mean([a.value == s.concept for a, s in zip(answers, asked, strict=True)])
        assert right == pytest.approx(evaluation.metrics["accuracy"], abs=1e-6)


def rewritten(**changes: object) -> Callable[[Path], object]:
    def rewrite(result: Path) -> None:
        facts = json.loads((result / "kept.json").read_text())
        (result / "kept.json").write_text(json.dumps({**facts, **changes}))

    return rewrite


def weighing(*weights: float) -> Callable[[Path], object]:
    return rewritten(weights=dict(zip(COMPONENTS, weights, strict=True)))


def cut(name: str) -> Callable[[Path], object]:
    return lambda result: (result / name).write_bytes((result / name).read_bytes()[:-20])


def removed(name: str) -> Callable[[Path], object]:
    return lambda result: (result / name).unlink()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut("kept.json"), r"kept\.json: missing or damaged"),
        (removed("kept.json"), r"kept\.json: missing or damaged"),
        (lambda result: (result / "kept.json").write_text("[]"), r"kept\.json: missing or damaged"),
        (rewritten(format="2"), "(?s)another version of fedgram.*expected: format 3"),
        (rewritten(colour="red"), "damaged"),
        (weighing(0.5, 0.25, 0.0, 0.0), "weights of sum 0.75"),
        (weighing(1.5, -0.5, 0.0, 0.0), r"a number in \[0, 1\]"),
        (rewritten(weights={HOME: 1.0}), "for each of home, together, directory, frozen"),
        (weighing(0.0, 0.5, 0.0, 0.5), r"frozen\.safetensors: damaged"),
        (weighing(0.5, 0.25, 0.25, 0.0), "a directory that has no concept"),
        (rewritten(concepts=2), r"directory\.safetensors: damaged"),
        (cut("home/local.safetensors"), r"home/local\.safetensors: damaged"),
        (removed("home/local.safetensors"), r"home/local\.safetensors: damaged"),
        (lambda result: write_tensors(result / "home/local.safetensors", {"B/q": torch.zeros(1)}), "does not fit"),
    ],
)
def test_a_damaged_mixture_is_named(half: Path, damage: Callable[[Path], object], told: str):
    damage(half)
    with pytest.raises(CheckpointError, match=told):
        fedgram.load(half)


def test_a_run_that_was_cut_before_its_last_task_left_the_federations_model(half: Path):
    facts = json.loads((half / "site.json").read_text())
    del facts["settled"]
    (half / "site.json").write_text(json.dumps(facts))
    found = fedgram.load(half)
    assert (found.kept.weights[TOGETHER], dict(found.home)) == (1.0, {})
    assert "ended before" in found.kept.why
