"""`fedgram data check` at a unified site: every fault that it knows, made once."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import unified_toy
from fedgram.checks.data.unified import check
from fedgram.cli.main import app
from fedgram.errors import ConfigError
from toy import write_site_file
from typer.testing import CliRunner


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site file over questions and captions of its own, that a test may spoil."""
    toy = unified_toy.make(tmp_path / "toy")
    path = tmp_path / "fedgram.toml"
    write_site_file(path, replace(toy.sites["one"], cache=str(tmp_path / "cache")))
    return path


def data_of(site: Path) -> Path:
    return site.parent / "toy/one"


def found(site: Path) -> dict[str, str]:
    """Level by text of every finding; each has a remedy."""
    findings = check(site).findings
    assert all(finding.remedy for finding in findings)
    return {finding.text: finding.level for finding in findings}


def test_what_was_understood_is_shown(site: Path):
    result = CliRunner().invoke(app, ["data", "check", str(site)], env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    items = check(site).parts
    assert sum(len(part.questions) for part in items.values()) == 24
    assert sum(len(part.captions) for part in items.values()) == 12
    for text in ("yes/no", "a photo of", items["train"].questions[0].text, "never sent"):
        assert text in result.output


def test_a_picture_that_cannot_be_opened_fails(site: Path):
    picture = sorted(data_of(site).glob("captions/**/*.png"))[0]
    picture.write_bytes(b"no picture")
    assert [text for text, level in found(site).items() if level == "failure" and picture.name in text]
    assert CliRunner().invoke(app, ["data", "check", str(site)]).exit_code == 1


def test_the_same_picture_on_two_sides_of_the_split_is_told(site: Path):
    parts = check(site).parts
    shutil.copy(parts["train"].questions[0].image, parts["test"].questions[0].image)
    assert any("more than one split" in text for text in found(site))


def test_a_small_test_is_told(site: Path):
    few = {text: level for text, level in found(site).items() if "says little" in text}
    assert few
    assert set(few.values()) == {"warning"}
    assert all("test questions" in text or "test captions" in text for text in few)


def test_questions_that_one_person_answered_cannot_score_one(site: Path):
    (path,) = data_of(site).glob("vqa/*annotations*.json")
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["answers"] = entry["answers"][:1]
    path.write_text(json.dumps(content))
    assert any("no answer to 24 of 24 questions" in text and "0.000" in text for text in found(site))


def test_an_answer_that_is_never_trained_is_told(site: Path):
    (path,) = data_of(site).glob("vqa/*annotations*.json")
    content = json.loads(path.read_text())
    tested = {q.id for q in check(site).parts["test"].questions}
    for entry in content["annotations"]:
        if str(entry["question_id"]) in tested:
            entry["multiple_choice_answer"] = "heliotrope"
    path.write_text(json.dumps(content))
    assert any("100% of the test questions" in text and "heliotrope" in text for text in found(site))


def test_a_site_of_one_modality_is_not_checked_here(site: Path, tmp_path: Path):
    toy = unified_toy.make(tmp_path / "other")
    write_site_file(site, toy.sites["red"])
    with pytest.raises(ConfigError, match="unified"):
        check(site)
