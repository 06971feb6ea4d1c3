"""A row of the evidence from a real run, and the tables and figures made of rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fedgram.config.strict import from_dict, to_dict
from fedgram.core.gram import cosine_gram
from fedgram.errors import ConfigError
from fedgram.methods import method_of
from fedgram.records import GlobalState, SiteEvaluation
from scipy.spatial.distance import pdist

from research import rows
from research.evidence import analyse, experiment, figures, seeds
from research.evidence.__main__ import carry_out
from research.evidence.experiment import ORDER, Experiment
from research.evidence.federations.synthetic import latents_of
from research.evidence.measure import alignment, recall, truth_alignment
from research.evidence.methods import ABLATIONS, BASELINES, CENTRAL, OURS, job_of
from research.evidence.studies import STUDIES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("evidence")


@pytest.fixture(scope="module")
def short() -> Iterator[None]:
    """Runs of two rounds of two steps."""

    def shortened(method: str, federation, seed: int):
        plain = to_dict(job_of(method, federation, seed))
        plain["training"] |= {"rounds": 2, "local_steps": 2}
        return from_dict(type(job_of(method, federation, seed)), plain, "test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(experiment, "job_of", shortened)
        yield


@pytest.fixture(scope="module")
def rows_of(folder: Path, short: None) -> Callable[..., rows.Row]:
    """The row of a short run on the made federation, of each run once."""
    return cache(lambda method, **fixed: experiment.run(Experiment("synthetic", method, 0, **fixed), folder))


@pytest.mark.parametrize("method", ["geodora", CENTRAL])
def test_a_run_is_a_row_of_measures_in_their_range(rows_of, method: str):
    row = rows_of(method)
    shares = [name for name in row if name.startswith(("accuracy", "r@", "map", "zero", "chance", "knn", "share"))]
    assert all(0 <= row[name] <= 1 for name in shares)
    assert {"accuracy/radar", "zero-shot", "truth", "raw r@1", "cka/null"} <= row.keys()
    assert row["r@1"] <= row["r@5"] <= row["r@10"]
    assert abs(row["cka/null"]) < 0.1 < row["knn/null"] < 0.4  # shuffled anchors: debiased CKA 0, k-NN 5 of 23
    assert row["chance"] == pytest.approx(1 / 6, abs=0.05)
    if method == CENTRAL:
        assert "bytes up" not in row
    else:
        assert 0 < row["bytes up"] < row["bytes down"]
        assert sum(value for name, value in row.items() if name.startswith("share/")) == pytest.approx(1)


def test_settings_are_chosen_without_held_out_anchors_and_test_samples(folder: Path, rows_of):
    chosen, tested = Experiment("synthetic", "local", 0, split="validation"), Experiment("synthetic", "local", 0)
    federation, whole = (experiment.federation_of(e, folder) for e in (chosen, tested))
    assert federation.anchors.slots + federation.heldout.slots == whole.anchors.slots
    assert {federation.anchors.sha256, federation.heldout.sha256}.isdisjoint({whole.heldout.sha256})
    assert sorted((*federation.anchors.concepts, *federation.heldout.concepts)) == sorted(whole.anchors.concepts)
    assert rows_of("local", split="validation")["accuracy"] != rows_of("local")["accuracy"]


def test_a_bridge_is_pairs_of_one_scene_at_one_site(folder: Path, rows_of):
    few, more = (
        experiment.federation_of(Experiment("synthetic", "geodora", 0, pairs=pairs), folder) for pairs in (8, 20)
    )
    bridged = [name for name, config in more.sites.items() if config.bridge is not None]
    assert bridged == [experiment.victim_of(more)] == ["radar-1"]
    tables = [pd.read_csv(f.sites["radar-1"].bridge.data, index_col="id") for f in (few, more)]  # pyright: ignore
    assert tables[0].equals(tables[1].iloc[:8])
    truth = latents_of(more, "radar-1")
    scene = np.stack([truth[name] for name in tables[1].index])
    # samples that are near in the hidden scene are near in what lidar sees of it
    assert truth_correlation(scene, tables[1].to_numpy()) > 0.5
    assert 0 < rows_of("geodora", pairs=20)["bridged r@1"] < 1
    assert rows_of("geodora", pairs=20)["bridged r@1"] != rows_of("geodora")["bridged r@1"]
    with pytest.raises(ConfigError, match="at most"):
        experiment.federation_of(Experiment("synthetic", "geodora", 0, pairs=5000), folder)
    with pytest.raises(ConfigError, match="pairs"):
        experiment.federation_of(Experiment("carnivora", "geodora", 0, pairs=5), folder)


def truth_correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(pdist(a), pdist(b))[0, 1])


def test_every_method_of_every_study_is_a_job(folder: Path):
    federation = experiment.federation_of(Experiment("synthetic", "local", 0), folder)
    for method in (CENTRAL, *BASELINES, *OURS, *ABLATIONS):
        method_of(job_of(method, federation, 0))
    known = {CENTRAL, *BASELINES, *OURS, *ABLATIONS}
    for study, experiments in STUDIES.items():
        assert {e.method for e in experiments()} <= known, study


def test_rows_are_of_methods_that_there_are_or_that_the_readme_says_are_gone():
    known = {CENTRAL, *BASELINES, *OURS, *ABLATIONS}
    found = {row["method"] for study in STUDIES for row in rows.read(rows.RESULTS / f"{study}.csv")}
    readme = (rows.RESULTS.parent / "README.md").read_text()
    assert found >= {*BASELINES, *OURS}
    assert [method for method in sorted(found - known) if f"`{method}`" not in readme] == []


def test_unrelated_geometries_score_like_their_null():
    def site(name: str, seed: int) -> SiteEvaluation:
        z = torch.randn(30, 12, generator=torch.Generator().manual_seed(seed))
        return SiteEvaluation(
            site=name, metrics={}, gram=cosine_gram(z), slots=tuple(range(6)), heldout_slots=tuple(range(24))
        )

    same, other = alignment(site("a", 0), site("b", 0)), alignment(site("a", 0), site("b", 1))
    assert same["cka"] == pytest.approx(1)
    assert same["cka/above"] == same["knn/above"] == 1
    assert abs(other["cka"] - other["cka/null"]) < 0.3
    assert 0 < other["cka/above"] < 1


def test_bytes_of_a_state_by_hand():
    """B of 6 numbers, m of 3, another tensor of 5 and a consensus of 4 × 4, each of 4 bytes."""
    state = GlobalState(
        round=1,
        anchors_sha256="a",
        backbone="b",
        B={"layer": torch.zeros(3, 2)},
        m={"layer": torch.zeros(3)},
        consensus=torch.eye(4),
        extra={"a": torch.zeros(5)},
    )
    assert experiment.state_bytes(state) == 4 * (6 + 3 + 5 + 16)


def test_recall_by_hand():
    similarity = torch.tensor([[0.9, 0.5, 0.1], [0.9, 0.5, 0.1], [0.1, 0.2, 0.3]])
    truth, offered = ["a", "b", "z"], ["b", "a", "c"]
    assert recall(similarity, truth, offered, [0, 1], 1) == 0.5
    assert recall(similarity, truth, offered, [0, 1], 2) == 1.0


def test_the_truth_is_recognised():
    latents = np.random.default_rng(0).normal(size=(12, 4))
    z = torch.from_numpy(latents - latents.mean(0))
    turned = cosine_gram(torch.cat([torch.randn(5, 4).double(), z]))
    found = SiteEvaluation(
        site="a", metrics={}, gram=turned, slots=tuple(range(5)), heldout_slots=tuple(range(12))
    )
    assert truth_alignment(found, latents) == pytest.approx(1)


def test_a_study_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    two = [Experiment("synthetic", "local", seed) for seed in range(2)]
    monkeypatch.setitem(STUDIES, "quick", lambda: two)
    rows.append(tmp_path / "quick.csv", two[0], {"accuracy": 0.5}, order=ORDER)
    failed = carry_out("quick", tmp_path / "files", tmp_path, workers=1, minutes=0)  # no time for the other
    assert failed == []
    assert rows.done(tmp_path / "quick.csv", Experiment) == {two[0]}
    rows.append(tmp_path / "quick.csv", two[1], {"accuracy": 1 / 3, "truth": 1.0}, order=ORDER)
    assert rows.done(tmp_path / "quick.csv", Experiment) == set(two)
    first, second = rows.read(tmp_path / "quick.csv")
    assert "truth" not in first
    assert second["accuracy"] == 0.333333


def row(method: str, seed: int, **measures: float) -> dict:
    return {"federation": "made", "method": method, "seed": seed, **measures}


def test_intervals_and_paired_tests_by_hand():
    """Mean 2, standard deviation 1, n = 3: 4.303 · 1/√3. Differences 1, 2, 3: t = 2/(1/√3) = 3.46, p = 0.074."""
    average, half = seeds.interval([1.0, 2.0, 3.0])
    assert (average, half) == (2.0, pytest.approx(4.3027 / math.sqrt(3), abs=1e-3))
    found = [row("fedit", seed, x=0.0) for seed in range(3)] + [row("geodora", s, x=1.0 + s) for s in range(3)]
    test = seeds.paired(found, "geodora", "fedit", "x")
    assert test is not None
    assert test.differences == (1.0, 2.0, 3.0)
    assert (test.mean, test.p) == (2.0, pytest.approx(0.0742, abs=1e-3))
    assert seeds.paired(found[:4], "geodora", "fedit", "x") is None


def test_marks_stand_where_the_best_baseline_is_beaten():
    found = []
    for seed in range(5):
        found += [row("local", seed, **{"r@1": 0.5 + 0.01 * seed}), row("fedit", seed, **{"r@1": 0.3})]
        found += [row("geodora", seed, **{"r@1": 0.6 + 0.012 * seed}), row("geolora", seed, **{"r@1": 0.1})]
    table = analyse.by_method(found, ("r@1",))
    marks = {line.split(" | ")[0].strip("| "): line for line in table.splitlines()}
    assert "▲" in marks["geodora"]
    assert "▼" in marks["geolora"]
    assert not {"▲", "▼"} & set(marks["local"] + marks["fedit"])


def test_differences_are_between_the_same_seeds():
    """Seed 7 has no counterpart: differences 0.1 and 0.3, mean 0.2, half 12.706 · 0.1414 / √2."""
    found = [row("geodora", 0, **{"r@1": 0.5}), row("geodora", 1, **{"r@1": 0.6})]
    found += [row("geodora: x", 0, **{"r@1": 0.6}), row("geodora: x", 1, **{"r@1": 0.9}), row("geodora: x", 7)]
    line = analyse.by_difference(found, ("r@1",), "geodora").splitlines()[-1]
    assert line == "| geodora: x | +0.200 ± 1.271 | 3 |"


def test_a_seed_of_another_federation_is_another_seed():
    """Differences 0.1 and 0.3, one a federation; what was run in one federation only is not shown."""
    found = [row("local", 0, x=0.5), row("geodora", 0, x=0.6), row("fedit", 0, x=0.9)]
    found += [{**one, "federation": "real"} for one in (row("local", 0, x=0.2), row("geodora", 0, x=0.5))]
    table = analyse.by_difference(seeds.pooled(found), ("x",), "local").splitlines()
    assert table[2:] == ["| geodora | +0.200 ± 1.271 | 2 |"]


def test_cases_are_told_as_differences_to_training_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Per case: 0.5 alone, and 0.1 and 0.3 more on the same seeds; a plain measure stays what it is."""
    monkeypatch.setattr(analyse, "RESULTS", tmp_path)
    for method, found in (("geodora", (0.6, 0.8)), ("local", (0.5, 0.5))):
        for seed, value in enumerate(found):
            made = Experiment("synthetic", method, seed, broken="noisy site")
            rows.append(tmp_path / "controls.csv", made, {"r@1": value, "share of the victim": 0.25}, order=ORDER)
    table = analyse.by_case("controls", ("broken",), ("r@1",), ("share of the victim",)).splitlines()
    assert table[2:] == [
        "| noisy site | local | 0.500 | 0.250 | 2 |",
        "| noisy site | geodora | +0.200 ± 1.271 | 0.250 | 2 |",
    ]


def test_only_learning_rates_make_a_curve():
    assert figures.rate_of("fedit") == ("fedit", 1)
    assert figures.rate_of("geodora: learning rate × 15") == ("geodora", 15)
    assert figures.rate_of("geodora: learning rate × 5, λ=0") is None
    assert figures.rate_of("geodora: rank 4") is None
    assert figures.rate_of("creamfl") is None  # never tried with another


def test_bytes_are_shown_in_kilobytes():
    assert analyse.cell([row("fedit", 0, **{"bytes up": 1500.0})], "bytes up") == "1.500"


def test_the_page_shows_what_the_rows_say():
    page = analyse.PAGE.read_text()
    assert analyse.fill(page) == page, "run: python -m research.evidence.analyse"


def test_every_study_has_its_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What is drawn are the means of the rows: here of four anchors and eight, over two seeds."""
    kept = tmp_path / "rows"
    monkeypatch.setattr(figures, "RESULTS", kept)
    for count, seed in ((4, 0), (4, 1), (8, 0), (8, 1)):
        experiment_ = Experiment("synthetic", "geodora", seed, broken=f"{count} anchors left")
        rows.append(kept / "anchors.csv", experiment_, {"r@1": count / 10 + seed / 10, "cka": 0.5}, order=ORDER)
    drawn = figures.anchors(rows.read(kept / "anchors.csv"))
    line = drawn.axes[0].lines[0]
    assert line.get_xdata().tolist() == [4, 8]
    assert line.get_ydata() == pytest.approx([0.45, 0.85])
    figures.draw_all(tmp_path)
    assert (tmp_path / "anchors.png").stat().st_size > 1000
    assert not (tmp_path / "methods.png").exists()
