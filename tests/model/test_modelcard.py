"""Model cards: the numbers of a run in the Hugging Face format, and nothing private."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.model.card import write_server_card
from fedgram.records import RoundRecord
from fedgram.results import report
from fedgram.training.loop import run_federation
from huggingface_hub import ModelCard
from toy import Toy, make

CANARIES = ("canary-id", "canary-patient", "canary-folder", "canary-site", "canary-concept", "0.31415926")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run over data in which everything private has a mark."""
    root = tmp_path_factory.mktemp("canary-folder")
    toy = make(root / "toy")
    for path in root.glob("toy/*.csv"):
        header, *rows = path.read_text().splitlines()
        marked = [row.split(",") for row in rows]
        for row in marked:
            row[0], row[2], row[3] = f"canary-id-{row[0]}", f"canary-patient-{row[2]}", "0.31415926"
            row[1] = row[1].replace("moss", "canary-concept")
        path.write_text("\n".join([header, *(",".join(row) for row in marked)]) + "\n")
    sites = {f"canary-site-{name}": config for name, config in toy.sites.items()}
    run = dataclasses.replace(toy, sites=sites)
    outcome = run_federation(run.sessions(root / "fedgram"), run.job, root / "state")
    report.write(root / "server", outcome, run.job)
    return root


def cards(workspace: Path) -> dict[str, Path]:
    found = {path.parents[2].name: path for path in workspace.glob("fedgram/*/result/adapter/README.md")}
    return {**found, "server": workspace / "server/adapter/README.md"}


def test_every_checkpoint_has_a_card(workspace: Path):
    assert len(cards(workspace)) == 4
    assert len(list(workspace.glob("fedgram/*/alone/adapter/README.md"))) == 3
    for path in cards(workspace).values():
        data = ModelCard.load(path).data
        assert data.library_name == "peft"
        assert (
            data.base_model
            == json.loads((path.parent / "adapter_config.json").read_text())["base_model_name_or_path"]
        )
        assert {"fedgram", "dora", "nvflare"} <= set(data.tags or ())
        assert data.license == "other"


def test_nothing_private_is_on_a_card(workspace: Path):
    facts = (workspace / "server/metrics.json").read_text() + "".join(
        path.read_text() for path in workspace.glob("fedgram/*/result/site.json")
    )
    for path in cards(workspace).values():
        text = path.read_text()
        assert [canary for canary in CANARIES if canary in text] == []
        assert str(workspace) not in text
    assert "canary-site" in facts  # the marks were there to be found
    assert "canary-concept" in facts
    assert "canary-folder" in facts
    private = (workspace / "toy/red.csv").read_text()
    assert all(canary in private for canary in ("canary-id", "canary-patient", "0.31415926"))


def test_the_card_of_the_shared_adapter_has_the_numbers_of_the_run(workspace: Path):
    text, facts = (
        cards(workspace)["server"].read_text(),
        json.loads((workspace / "server/metrics.json").read_text()),
    )
    last = facts["rounds"][-1]
    assert f"| 3 | {sum(last['samples'].values())} | 3 of 3 | {last['mean_update_norm']:.3g} |" in text
    assert facts["job"]["anchors"]["sha256"] in text
    assert facts["job"]["heldout"]["sha256"] in text
    assert facts["backbone"] in text
    assert "oak, pine, rye, moss" in text  # the anchors' concepts are public
    assert "site 1 – site 2" in text
    for site, metrics in facts["test"].items():
        number, alone = sorted(facts["test"]).index(site) + 1, facts["test_alone"][site]["accuracy"]
        assert f"| site {number} | accuracy | {alone:.3g} | {metrics['accuracy']:.3g} |" in text


def test_private_magnitudes_make_the_shared_checkpoint_a_lora(workspace: Path):
    facts = json.loads((workspace / "server/metrics.json").read_text())
    facts["job"]["adapter"]["magnitude"] = "private"
    job = from_dict(JobConfig, facts["job"], "test")
    write_server_card(workspace / "private", job=job, backbone="0" * 64, records=[], facts=facts)
    tags = ModelCard.load(workspace / "private/README.md").data.tags or []
    assert "lora" in tags
    assert "dora" not in tags


def test_the_card_of_a_site_has_its_counts(workspace: Path, toy: Toy):
    text = cards(workspace)["canary-site-blue"].read_text()
    counts = {split: len(data) for split, data in toy.open("blue").data.items() if split != "fit"}
    assert all(f"| {split} | {count} |" in text for split, count in counts.items())
    assert "Classes: oak, pine, rye." in text
    assert "Classes: oak, pine, rye, and 1 others." in cards(workspace)["canary-site-red"].read_text()


def test_a_long_run_is_a_short_table(workspace: Path):

    facts = json.loads((workspace / "server/metrics.json").read_text())
    record = from_dict(RoundRecord, facts["rounds"][0], "test")
    records = [dataclasses.replace(record, round=i) for i in range(1, 101)]
    job = from_dict(JobConfig, facts["job"], "test")
    write_server_card(workspace / "long", job=job, backbone="0" * 64, records=records, facts=facts)
    rows = [line for line in (workspace / "long/README.md").read_text().splitlines() if "3 of 3" in line]
    assert len(rows) == 12
    assert rows[-1].startswith("| 100 |")
