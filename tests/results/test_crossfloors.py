"""Floors of retrieval and naming against scikit-learn called by hand, and where they are not defined."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import fedgram
import numpy as np
import pytest
from fedgram.results import crossmodal, crossreport
from fedgram.results.crossfloors import (
    FrozenSite,
    class_similarities,
    frozen_site,
    own_anchors,
    retrieval_floors,
    ridge_similarities,
    site_floors,
)
from fedgram.results.crossmeasure import measure
from fedgram.results.intervals import WithInterval
from fedgram.scoring.floors import STRENGTHS
from fedgram.scoring.frozen import frozen
from rich.console import Console
from sklearn.linear_model import LogisticRegression, Ridge
from toy import SITES


@pytest.fixture(scope="module")
def sites(finished: Path) -> dict[str, FrozenSite]:
    opened = {name: fedgram.load(finished, site=name).site for name in SITES}
    return {name: frozen_site(site, site.samples("test"), site_floors(site)) for name, site in opened.items()}


def standardised(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    return (x - by.mean(0)) / by.std(0)


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T


def value(floor: WithInterval | None) -> float:
    assert floor is not None
    return floor.value


def precision(similarity: np.ndarray, truth: FrozenSite, offered: FrozenSite) -> float:
    rows = [i for i, c in enumerate(truth.concepts) if c in offered.concepts]
    return float(np.mean([offered.concepts[similarity[i].argmax()] == truth.concepts[i] for i in rows]))


def test_class_probabilities_are_those_of_two_logistic_regressions(sites: dict[str, FrozenSite]):
    """Green was never told of rye: the classes of both are oak, pine and moss."""
    found = {}
    for name in ("red", "green"):
        site, parts = sites[name].site, {}
        for split in ("train", "validation"):
            samples = [s for s in site.samples(split) if s.concept in site.task.classes]
            x = frozen(site.channel(0).tokens_of([s.content for s in samples]))
            parts[split] = x, np.array([s.concept for s in samples])
        slots = [site.job.anchors.concepts[slot] for slot in site.anchors.slots]
        own = [i for i, c in enumerate(slots) if c in site.task.classes]
        x = np.concatenate([parts["train"][0], sites[name].anchors[own]])
        y = np.concatenate([parts["train"][1], np.array(slots)[own]])
        vx, vy = standardised(parts["validation"][0], x), parts["validation"][1]
        models = [LogisticRegression(C=c, max_iter=1000).fit(standardised(x, x), y) for c in STRENGTHS]
        best = max(models, key=lambda model: model.score(vx, vy))
        columns = [[*best.classes_].index(c) for c in ("moss", "oak", "pine")]
        found[name] = best.predict_proba(standardised(sites[name].test, x))[:, columns]
    expected = cosines(found["red"], found["green"])
    np.testing.assert_allclose(class_similarities(sites["red"], sites["green"]), expected, atol=1e-6)
    floors = retrieval_floors(sites["red"], sites["green"])
    assert (floors.query, floors.gallery) == ("red", "green")
    assert value(floors.class_probabilities) == precision(expected, sites["red"], sites["green"])


def test_ridge_on_anchors_leaves_one_anchor_out(sites: dict[str, FrozenSite]):
    """Blue's modality has no anchor of moss, so the map from red is learnt from the other nine."""
    red, blue = sites["red"], sites["blue"]
    ours = red.anchors[[red.site.anchors.slots.index(slot) for slot in blue.site.anchors.slots]]
    x, y = standardised(ours, ours), standardised(blue.anchors, blue.anchors)

    def left_out(alpha: float) -> float:
        """Mean squared error of each anchor, from a model of all the others."""
        rest = [np.delete(np.arange(len(x)), i) for i in range(len(x))]
        return float(
            np.mean([(Ridge(alpha).fit(x[r], y[r]).predict(x[i : i + 1]) - y[i]) ** 2 for i, r in enumerate(rest)])
        )

    best = Ridge(min(np.logspace(-2, 5, 8), key=left_out)).fit(x, y)
    expected = cosines(best.predict(standardised(red.test, ours)), standardised(blue.test, blue.anchors))
    np.testing.assert_allclose(ridge_similarities(red, blue), expected, atol=1e-6)
    assert value(retrieval_floors(red, blue).ridge_on_anchors) == precision(expected, red, blue)


def test_own_anchors_name_a_concept_without_labels(sites: dict[str, FrozenSite]):
    green, known = sites["green"], ["moss", "oak", "pine", "rye"]
    names = [green.site.job.anchors.concepts[slot] for slot in green.site.anchors.slots]
    x, test = (standardised(part, green.anchors) for part in (green.anchors, green.test))
    means = np.stack([x[[i for i, n in enumerate(names) if n == c]].mean(0) for c in known])
    nearest = ((test[:, None] - means) ** 2).sum(2).argmin(1)
    rye = [known[n] == "rye" for n, c in zip(nearest, green.concepts, strict=True) if c == "rye"]
    assert value(own_anchors(green, "red", "rye", known).own_anchors) == pytest.approx(np.mean(rye))


def test_a_floor_that_is_not_defined_is_none(sites: dict[str, FrozenSite]):
    red, blue = sites["red"], sites["blue"]
    assert own_anchors(blue, "red", "moss", ["moss", "oak"]).own_anchors is None  # it has no anchor of moss
    assert own_anchors(red, "blue", "oak", ["oak"]).own_anchors is None  # one class names nothing
    other = replace(red, probabilities={"oak": np.ones(len(red.test)), "yew": np.ones(len(red.test))})
    assert class_similarities(other, blue) is None  # one class in common
    few = replace(blue.site.anchors, slots=blue.site.anchors.slots[:2])
    assert ridge_similarities(red, replace(blue, site=replace(blue.site, anchors=few))) is None
    floors = retrieval_floors(replace(red, probabilities={}), blue)
    assert floors.class_probabilities is None
    assert floors.ridge_on_anchors is not None


def test_the_tables_show_home_and_floors_and_say_what_they_are(finished: Path, tmp_path: Path):
    shown = io.StringIO()
    folders = [finished / "fedgram" / name / "result" for name in SITES]
    crossreport.write(folders, tmp_path, Console(file=shown, width=115))
    facts = json.loads((tmp_path / "crossmodal.json").read_text())
    assert len(facts["retrieval"]) == len(facts["retrieval_floors"]) == len(facts["retrieval_alone"]) == 6
    for row, floor in zip(facts["retrieval"], facts["retrieval_floors"], strict=True):
        assert (row["query"], row["gallery"]) == (floor["query"], floor["gallery"])
        for name in ("class_probabilities", "ridge_on_anchors"):
            low, high = floor[name]["interval"]
            assert low <= floor[name]["value"] <= high
        assert floor["class_probabilities"]["value"] > row["chance"]
    assert [(t["query"], t["concept"]) for t in facts["transfer_floors"]] == [("green", "rye"), ("green", "rye")]
    words = " ".join(shown.getvalue().split())
    for text in ("home", "together", "probabilities", "ridge on", "own anchors", "mAP: mean average precision"):
        assert text in words
    assert "…" not in words
    assert (tmp_path / "crossmodal.png").stat().st_size > 10_000


def test_each_model_of_a_site_is_asked_as_if_it_were_loaded_by_itself(finished: Path):
    """One opened site has both models in turn, and represents only what is asked; the numbers are the same."""
    found = measure([finished / "fedgram" / name / "result" for name in SITES])
    for name, asked in (("result", found.together), ("alone", found.home)):
        opened = [fedgram.load(finished / "fedgram" / site / name).site for site in SITES]
        tested, taught = ([crossmodal.embed(s, s.samples(part)) for s in opened] for part in ("test", "train"))
        assert asked.comparisons == [crossmodal.compare(a, b) for a, b in permutations(tested, 2)]
        pairs = [(a, b) for a in tested for b in taught if a.site is not b.site]
        assert asked.transfers == [t for a, b in pairs for t in crossmodal.transfers(a, b)]
    assert [t.concept for t in found.together.transfers] == ["rye", "rye"]


def test_without_results_at_home_their_place_is_a_dash(sites: dict[str, FrozenSite]):
    red, blue = (crossmodal.embed(s.site, s.site.samples("test")) for s in (sites["red"], sites["blue"]))
    table = crossreport._table(
        [crossmodal.compare(red, blue)], [], [retrieval_floors(sites["red"], sites["blue"])]
    )
    assert [*table.columns[3].cells] == ["–"]
