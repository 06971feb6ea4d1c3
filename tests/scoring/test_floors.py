"""Floors against scikit-learn called by hand, on the toy's sites."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from fedgram.model.tasks.labels import MultiLabel
from fedgram.model.tasks.regression import Regression
from fedgram.records import LabelledTokens, Tokens
from fedgram.scoring.floors import NEIGHBOURS, STRENGTHS, floors, nearest_mean
from fedgram.scoring.frozen import frozen
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestCentroid
from toy import Toy


def by_hand(part: LabelledTokens) -> tuple[np.ndarray, np.ndarray]:
    token_parts = part.tokens.values, part.tokens.mask
    rows = [values[mask].double().mean(0).numpy() for values, mask in zip(*token_parts, strict=True)]
    return np.stack(rows), part.targets.numpy()


def standardised(data: dict[str, LabelledTokens], by: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    x, _ = by_hand(data[by])
    mean, std = x.mean(0), x.std(0)
    return {name: ((rows - mean) / std, y) for name, (rows, y) in ((n, by_hand(p)) for n, p in data.items())}


@pytest.fixture(scope="module")
def data(toy: Toy) -> dict[str, LabelledTokens]:
    """Of a site that is hard to tell apart: half of its labels are those of other samples."""
    found = dict(toy.open("red").data)
    for name in ("fit", "validation", "test"):
        targets = found[name].targets.clone()
        targets[::2] = targets[::2].roll(7)
        found[name] = replace(found[name], targets=targets)
    return found


def test_floors_of_classes_are_those_of_scikit_learn(toy: Toy, data: dict[str, LabelledTokens]):
    site = toy.open("red")
    anchors = LabelledTokens(
        tokens=site.anchors.tokens, targets=torch.arange(4).repeat_interleave(3).flip(0), concepts=()
    )
    parts = standardised({k: data[k] for k in ("fit", "validation", "test")}, "fit")
    (x, y), (vx, vy), (tx, ty) = parts["fit"], parts["validation"], parts["test"]
    lrs = [LogisticRegression(C=c, max_iter=1000).fit(x, y) for c in STRENGTHS]
    knns = [KNeighborsClassifier(k, metric="cosine").fit(x, y) for k in NEIGHBOURS]
    lr, knn = (max(models, key=lambda m: m.score(vx, vy)) for models in (lrs, knns))
    public = standardised({"anchors": anchors, "test": data["test"]}, "anchors")
    centroid = NearestCentroid().fit(*public["anchors"])
    assert floors(site.task, data, anchors) == {
        "test_samples": 16.0,
        "test_groups": 16.0,
        "frozen_lr": pytest.approx(lr.score(tx, ty)),
        "frozen_knn": pytest.approx(knn.score(tx, ty)),
        "own_anchors": pytest.approx(centroid.score(*public["test"])),
    }


def test_floors_of_numbers_are_errors(data: dict[str, LabelledTokens]):
    numbers = {k: replace(v, targets=v.tokens.values[:, 0, 0] * 3 + v.targets) for k, v in data.items()}
    parts = standardised({k: numbers[k] for k in ("fit", "validation", "test")}, "fit")
    (x, y), (vx, vy), (tx, ty) = parts["fit"], parts["validation"], parts["test"]

    def best(models: list) -> float:
        errors = [np.abs(model.fit(x, y).predict(vx) - vy).mean() for model in models]
        return np.abs(models[int(np.argmin(errors))].predict(tx) - ty).mean()

    found = floors(Regression(0.0, 1.0), numbers, None)
    assert found["frozen_lr"] == pytest.approx(best([Ridge(alpha=1 / c) for c in STRENGTHS]))
    assert found["frozen_knn"] == pytest.approx(
        best([KNeighborsRegressor(k, metric="cosine") for k in NEIGHBOURS])
    )
    assert "own_anchors" not in found


def test_without_validation_samples_the_middle_is_taken(toy: Toy, data: dict[str, LabelledTokens]):
    few = {**data, "validation": rows(data["validation"], 0), "fit": rows(data["fit"], 2)}
    few["fit"] = replace(few["fit"], targets=torch.tensor([0, 1]))
    parts = standardised({k: few[k] for k in ("fit", "test")}, "fit")
    models = LogisticRegression(C=1.0), KNeighborsClassifier(1, metric="cosine")  # two samples have one neighbour
    x, _ = parts["fit"]
    expected = [model.fit(x, [0, 1]).score(*parts["test"]) for model in models]
    found = floors(toy.open("red").task, few, None)
    assert [found["frozen_lr"], found["frozen_knn"]] == pytest.approx(expected)


def rows(part: LabelledTokens, count: int) -> LabelledTokens:
    return LabelledTokens(
        tokens=part.tokens[:count], targets=part.targets[:count], concepts=part.concepts[:count], groups=()
    )


def test_a_floor_that_is_not_defined_is_left_out(toy: Toy, data: dict[str, LabelledTokens]):
    site = toy.open("red")
    counts = {"test_samples": 16.0, "test_groups": 16.0}
    assert floors(MultiLabel(("a", "b")), data, None) == counts
    empty = {**data, "test": rows(data["test"], 0)}
    assert floors(site.task, empty, None) == {"test_samples": 0.0, "test_groups": 0.0}
    one = LabelledTokens(tokens=site.anchors.tokens, targets=torch.zeros(12, dtype=torch.long), concepts=())
    assert "own_anchors" not in floors(site.task, data, one)  # one class names nothing


@pytest.mark.parametrize("x", [np.eye(3), np.ones((3, 3))])
def test_one_anchor_of_each_class_is_enough_even_where_all_are_alike(x: np.ndarray):
    assert nearest_mean(x, np.array(["a", "b", "c"])).predict(np.eye(3)).tolist()[0] == "a"


def test_tokens_that_are_not_there_do_not_count():
    values = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])
    mask = torch.tensor([[True, True, False]])
    assert frozen(Tokens(values, mask)).tolist() == [[2.0, 3.0]]


def test_a_site_sends_its_floors_with_what_it_is_worth_alone(toy: Toy, tmp_path):
    run = toy.with_job(training={"rounds": 1, "local_steps": 1})
    session = run.sessions(tmp_path)["blue"]
    sent = session.alone("run").metrics
    assert {name: sent[name] for name in session.site.floors()} == session.site.floors()
    assert sent["own_anchors"] > 0.7  # of the concepts that are its classes
    quiet = toy.with_job(metrics=["accuracy"], training={"rounds": 1, "local_steps": 1})
    assert quiet.sessions(tmp_path / "quiet")["blue"].alone("run").metrics.keys() == {"accuracy"}
