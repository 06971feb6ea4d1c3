"""The report of runs that did not go well."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import pytest
import torch
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.records import GlobalState, ModelSpec, RoundRecord, SiteEvaluation
from fedgram.results import report
from fedgram.training.outcome import Outcome
from fedgram.training.server import ServerState
from rich.console import Console

JOB = JobConfig(anchors=AnchorPin("0" * 64, ("a",) * 4), heldout=AnchorPin("1" * 64, ("a", "a", "b", "b", "c")))
LAYER = "base_model.model.layer"


def state() -> ServerState:
    shared = GlobalState(
        round=1,
        anchors_sha256="0" * 64,
        backbone="f" * 64,
        B={LAYER: torch.ones(3, 16)},
        m={},
        consensus=torch.full((4, 4), float("nan")),
    )
    metrics = {"x": {"loss": 1.0}, "y": {"loss": 2.0}}
    sent = {"x": 5000, "y": 5000}
    refused = {"z": "z: Gram is not symmetric"}
    record = RoundRecord(
        round=1,
        shares={"x": 0.5, "y": 0.5},
        metrics=metrics,
        payload_bytes=sent,
        rejected=refused,
        missing=("w",),
        mean_update_norm=1.0,
        update_norms={"x": 1.0, "y": 1.0},
        seconds=2.0,
        restarts={},
        samples={},
    )
    return ServerState(
        run="run",
        state=shared,
        moments={},
        spec=ModelSpec(shapes={LAYER: (3, 16, 8)}, backbone="f" * 64, width=8),
        modalities={},
        refused=(),
        records=(record,),
    )


def printed(facts: dict) -> str:
    text = io.StringIO()
    report.print_report(facts, Console(file=text, width=120))
    return text.getvalue()


def test_an_unfinished_run_still_has_a_report(tmp_path: Path):
    report.write_server_files(tmp_path, state(), JOB)
    text = printed(json.loads((tmp_path / "metrics.json").read_text()))
    assert "round 1: z: Gram is not symmetric" in text
    assert "round 1: w: no reply" in text
    assert "5 kB" in text
    assert (tmp_path / "adapter" / "adapter_model.safetensors").is_file()


def test_sites_that_share_nothing_leave_dashes(tmp_path: Path):
    """x covers held-out anchors of a and b, y of b and c: too few in common to compare, and y has no metrics."""
    x = SiteEvaluation(
        site="x", metrics={"accuracy": 0.5}, gram=torch.eye(8), slots=(0, 1, 2, 3), heldout_slots=(0, 1, 2, 3)
    )
    y = SiteEvaluation(site="y", metrics={}, gram=torch.eye(7), slots=(0, 1, 2, 3), heldout_slots=(2, 3, 4))
    report.write(tmp_path, Outcome(server=state(), together={"x": x, "y": y}, alone={}), JOB)
    facts = json.loads((tmp_path / "metrics.json").read_text())
    assert facts["test"] == {"x": {"accuracy": 0.5}, "y": {}}
    assert facts["alignment"] == []
    assert "–" in (tmp_path / "report.txt").read_text()
    assert (tmp_path / "report.png").stat().st_size > 10_000


def test_a_geometry_without_structure_is_aligned_with_nothing(tmp_path: Path):
    x = SiteEvaluation(
        site="x", metrics={"accuracy": 1.0}, gram=torch.eye(8), slots=(0, 1, 2, 3), heldout_slots=(0, 1, 2, 3)
    )
    report.write(
        tmp_path, Outcome(server=state(), together={"x": x, "y": dataclasses.replace(x, site="y")}, alone={}), JOB
    )
    pair = json.loads((tmp_path / "metrics.json").read_text())["alignment"][0]
    assert pair["cka"] == 0.0
    assert pair["anchors"] == 4


def test_every_site_is_judged_by_its_own_metric(tmp_path: Path):
    """An error that falls is a gain; a metric that the job does not name leaves a dash."""
    alone = {"x": {"accuracy": 0.5, "auroc": 0.9}, "y": {"mae": 4.0, "r2": -0.5}, "z": {"dice": 0.75}, "w": {}}
    together = {"x": {"accuracy": 0.75}, "y": {"mae": 3.0, "r2": 0.5}, "z": {"dice": 0.5}, "w": {}}
    rows = written(tmp_path, alone=alone, together=together)
    assert rows["x"] == ["accuracy", "0.500", "0.750", "–", "+0.250", *"–––––"]
    assert rows["y"] == ["mae ↓", "4.000", "3.000", "–", "+1.000", *"–––––"]
    assert rows["z"] == ["dice", "0.750", "0.500", "–", "-0.250", *"–––––"]
    assert rows["w"] == list("––––––––––")


def test_what_a_site_keeps_stands_beside_its_floors(tmp_path: Path):
    """A gain is that of what is kept, with a standard error where there is one; what is not known is a dash."""
    floors = {"frozen_lr": 0.625, "frozen_knn": 0.5, "own_anchors": 0.25, "test_samples": 16.0, "test_groups": 4.0}
    alone = {"x": {"accuracy": 0.5, **floors}, "y": {"mae": 4.0, "frozen_lr": 5.0, "test_samples": 9.0}}
    together = {"x": {"accuracy": 0.75}, "y": {"mae": 6.0}}
    kept = {"x": {"accuracy": 0.625, "gain": 0.125, "gain_se": 0.0625, "kept_home": 0.5}, "y": {"mae": 3.5}}
    rows = written(tmp_path, alone=alone, together=together, kept=kept)
    found = "0.500", "0.750", "0.625", "+0.125 ± 0.062", "0.625", "0.500", "0.250", "16", "4"
    assert rows["x"] == ["accuracy", *found]
    assert rows["y"] == ["mae ↓", "4.000", "6.000", "3.500", "+0.500", "5.000", "–", "–", "9", "–"]
    facts = json.loads((tmp_path / "metrics.json").read_text())
    assert facts["test_kept"] == kept
    text = io.StringIO()
    report.print_report(facts, Console(file=text, width=115))
    assert "+0.125 ± 0.062" in text.getvalue()
    assert "…" not in text.getvalue()


def test_the_last_line_says_whether_it_paid_over_all_sites(tmp_path: Path):
    """Gains of 0.1, 0.2 and 0.3: mean 0.2, standard error 0.1/√3, and Student's t is 4.303 at two degrees."""
    alone = {site: {"accuracy": 0.5} for site in "xyz"} | {"u": {"mae": 4.0}, "v": {}}
    together = {"x": {"accuracy": 0.6}, "y": {"accuracy": 0.7}, "z": {"accuracy": 0.8}, "u": {"mae": 3.0}, "v": {}}
    kept = {**alone, "x": {"accuracy": 0.8}}
    written(tmp_path, alone=alone, together=together, kept=kept)
    *_, line = (tmp_path / "report.txt").read_text().splitlines()
    gains = "kept +0.100 ± 0.430, together +0.200 ± 0.248"
    assert line == f"Mean gain over home in accuracy (all, 3 sites, 95 % interval): {gains}"


def test_sites_of_one_modality_have_a_line_of_their_own():
    """Two gains of 0.25 have no spread; Student's t over three sites is 4.303, the standard error 0.25/3."""
    facts = {
        "rounds": [],
        "modalities": {"x": "image", "y": "image", "z": "text"},
        "test": {"x": {"accuracy": 0.75}, "y": {"accuracy": 0.5}, "z": {"accuracy": 0.5}},
        "test_alone": {"x": {"accuracy": 0.5}, "y": {"accuracy": 0.25}, "z": {"accuracy": 0.5}},
    }
    assert report.verdicts(facts) == [
        "Mean gain over home in accuracy (all, 3 sites, 95 % interval): together +0.167 ± 0.359",
        "Mean gain over home in accuracy (image, 2 sites, 95 % interval): together +0.250 ± 0.000",
    ]


def test_a_single_site_has_no_interval(tmp_path: Path):
    written(tmp_path, alone={"x": {"accuracy": 0.5}}, together={"x": {"accuracy": 0.6}})
    assert "Mean gain" not in (tmp_path / "report.txt").read_text()


def written(folder: Path, **parts: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """The rows of the last table of a report of these metrics, without the names of the sites."""
    geometry = {"gram": torch.eye(8), "slots": (0, 1, 2, 3), "heldout_slots": (0, 1, 2, 3)}
    evaluations = {
        part: {site: SiteEvaluation(site=site, metrics=metrics, **geometry) for site, metrics in values.items()}
        for part, values in parts.items()
    }
    report.write(folder, Outcome(server=state(), **evaluations), JOB)
    table = (folder / "report.txt").read_text().split("Was it worth it?")[1]
    cells = [[cell.strip() for cell in line.split("│")] for line in table.splitlines() if "│" in line]
    return {site: values[:-1] for _, site, *values in cells}


def test_saved_state_that_was_damaged_is_in_the_report(tmp_path: Path):
    note = "server.safetensors: damaged (its checksum does not fit); went on from the state after round 1"
    report.write(tmp_path, Outcome(server=dataclasses.replace(state(), notes=(note,)), together={}, alone={}), JOB)
    assert json.loads((tmp_path / "metrics.json").read_text())["notes"] == [note]
    assert note in (tmp_path / "report.txt").read_text()


@pytest.mark.parametrize(
    ("rules", "mode"),
    [
        ({}, "plain + robust"),
        ({"clip": 0.0}, "plain"),
        ({"clip": 0.0, "rule": "median"}, "plain + robust"),
        ({"clip": 0.0, "max_share": 1.0, "masked": True}, "masked"),
    ],
)
def test_the_mode_of_the_job_is_the_first_line(tmp_path: Path, rules: dict, mode: str):
    job = dataclasses.replace(JOB, aggregation=dataclasses.replace(JOB.aggregation, **rules), metrics=())
    report.write(tmp_path, Outcome(server=state(), together={}, alone={}), job)
    assert (tmp_path / "report.txt").read_text().startswith(f"Mode: {mode}: the server gets")


def test_a_share_cap_that_makes_all_weigh_alike_is_said():
    assert report.capped_alike({"weights": "precision", "max_share": 0.5}, 3) is None
    assert report.capped_alike({"weights": "uniform", "max_share": 0.5}, 2) is None
    assert report.capped_alike({}, 1) is None
    assert "0.5 lets 2 sites weigh alike" in str(report.capped_alike({"weights": "precision"}, 2))
