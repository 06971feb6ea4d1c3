"""The doctor on a site's own file, and on all that it names."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from examined import assert_one, edit_settings, examine, troubles
from fedgram.checks.doctor import connection
from fedgram.config.site import find_site_config
from fedgram.errors import DataError
from kits import edit_site
from toy import Toy, few_positions


def edit_data(red: Path, change: Callable[[str], str]) -> None:
    path = red / "data.csv"
    path.write_text(change(Path(find_site_config(red / "local", "red").data).read_text()))
    edit_site(red, data=str(path))


def without(concept: str, keep: int) -> Callable[[str], str]:
    """The table with only the first so many rows of a concept."""

    def change(table: str) -> str:
        lines = table.splitlines()
        rows = [line for line in lines if f",{concept}," in line]
        return "\n".join(line for line in lines if line not in rows[keep:]) + "\n"

    return change


def edited_anchors(red: Path, toy: Toy) -> None:
    shutil.copytree(toy.sites["red"].anchors, red / "anchors")
    (red / "anchors/red/0.csv").write_text("1,2")
    edit_site(red, anchors=str(red / "anchors"))


@pytest.mark.parametrize(
    ("mutate", "check", "text", "remedy"),
    [
        (lambda k, t: (k / "local/fedgram.toml").unlink(), "site file", "no site file", "site.example.toml"),
        (
            lambda k, t: (k / "local/fedgram.toml").write_text("device = 3"),
            "site file",
            "device: 3",
            "expected: str",
        ),
        (lambda k, t: edit_site(k, modality="no_such:X"), "site file", "cannot import", "install the package"),
        (
            lambda k, t: edit_site(k, modality="toy_modalities:BLUE"),
            "site file",
            "modality 'blue'",
            "'red', which the job has for red",
        ),
        (lambda k, t: edit_site(k, data="/nowhere.csv"), "data", "nowhere.csv: No such file", "correct the path"),
        (lambda k, t: edit_site(k, concepts=("oak", "elm")), "data", r"no sample of \['elm'\]", "expected: moss"),
        (lambda k, t: edit_site(k, concepts=("oak",)), "data", "1 class", "at least 2"),
        (lambda k, t: edited_anchors(k, t), "anchors", "edited anchor file", "fetch the anchor set again"),
        (
            lambda k, t: edit_site(k, anchors=t.sites["red"].heldout),
            "anchors",
            "another anchor set",
            "install the anchor set that the job names",
        ),
        (lambda k, t: edit_site(k, heldout=None), "held out anchors", "no held-out anchors", "name their folder"),
        (
            lambda k, t: edit_site(k, heldout=t.sites["red"].anchors),
            "held out anchors",
            "another anchor set",
            "install the anchor set",
        ),
        (lambda k, t: edit_site(k, device="cuda:99"), "device", "cuda:99", "auto, cpu, cuda, cuda:N or split"),
        (lambda k, t: edit_site(k, backbones={"tiny": "/no"}), "memory", "no folder /no", r"\[backbones\]"),
        (
            lambda k, t: edit_site(k, cache=str(k / "local/fedgram.toml/x")),
            "disk",
            "cannot be written",
            "give it to",
        ),
        (
            lambda k, t: edit_site(k, state=str(k / "local/fedgram.toml")),
            "disk",
            "state: .* cannot be written",
            "give it to the user",
        ),
    ],
)
def test_site(
    red: Path,
    job: Path,
    toy: Toy,
    mutate: Callable[[Path, Toy], None],
    check: str,
    text: str,
    remedy: str,
):
    mutate(red, toy)
    assert_one(examine(red, job), check, "failure", text, remedy)


def test_what_cannot_be_checked_says_why(red: Path, job: Path):
    edit_site(red, data="/nowhere.csv", device="cuda:99")
    skipped = {name: f.text for name, f in examine(red, job) if f.level == "skipped"}
    assert skipped == {
        "tokenizer": "because 'data' failed",
        "memory": "because 'device' failed",
        "backbone": "because 'memory' failed",
    }


def test_anchors_of_other_concepts(red: Path):
    edit_data(red, lambda s: re.sub("oak|pine|rye|moss", lambda m: m[0] + "s", s))
    assert_one(examine(red), "anchors", "warning", "none of the site's concepts", "label the data")


def test_few_samples(red: Path):
    edit_data(red, without("oak", keep=4))
    assert_one(examine(red), "data", "warning", "fewer than 10 training samples of oak", "add some")


def test_a_concept_that_is_never_tested(red: Path):
    edit_data(red, without("oak", keep=1))
    texts = [finding.text for _, finding in troubles(examine(red), "warning")]
    assert texts == ["fewer than 10 training samples of oak", "never tested: oak"]


def test_a_backbone_folder_without_a_model(red: Path):
    edit_site(red, backbones={"tiny": str(red / "nowhere")})
    assert_one(examine(red), "backbone", "failure", "no config.json", "correct 'tiny' under")


def test_a_backbone_that_cannot_be_adapted(red: Path, job: Path):
    edit_settings(job, adapter={"targets": ["no_such_layer"]})
    assert_one(examine(red, job), "backbone", "failure", "no adapter can be attached", "choose targets")


def test_more_tokens_than_the_backbone_has_positions(red: Path, job: Path, tmp_path: Path):
    edit_site(red, backbones={"tiny": str(few_positions(tmp_path))})
    assert_one(examine(red, job), "backbone", "failure", "4 tokens a sample", "at most 3, the positions")


def test_a_method_that_the_site_does_not_allow(red: Path, job: Path):
    edit_settings(job, method={"name": "creamfl"}, adapter={"dora": False})
    text, remedy = "which sends the representation of every public anchor", "add 'creamfl' to methods"
    assert_one(examine(red, job), "backbone", "failure", text, remedy)


def test_a_misspelt_method_in_the_site_file(red: Path):
    edit_site(red, methods=["geo", "creamfi"])
    found = examine(red)
    assert_one(found, "site file", "failure", "unknown method 'creamfi'", "did you mean 'creamfl'?")


def test_a_method_of_another_package_needs_the_servers_leave(hub: Path, job: Path):
    edit_settings(job, method={"name": "nowhere:Mine"})
    text, remedy = "runs method 'nowhere:Mine', which is foreign code", "add 'nowhere:Mine' to methods there"
    assert_one(examine(hub, job), "server file", "failure", text, remedy)
    (hub / "local/fedgram").mkdir(exist_ok=True)
    (hub / "local/fedgram/server.toml").write_text('methods = ["nowhere:Mine"]')
    assert_one(examine(hub, job), "server file", "failure", "cannot import 'nowhere:Mine'", "install the package")


class Encoder:
    """A tokenizer with one fault."""

    identity, width = "faulty", 4

    def __init__(self, fault: str):
        self.fault = fault

    def __call__(self, contents: object) -> object:
        if self.fault == "crash":
            raise RuntimeError("the patient's name is CANARY")
        from fedgram.records import Tokens

        return Tokens(torch.full((1, 2, 4), float("nan")), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("fault", "text", "remedy"),
    [
        ("nan", "not finite", "use another"),
        ("crash", r"^RuntimeError at test_doctor_site\.py:\d+$", "unforeseen"),
    ],
)
def test_tokenizers(red: Path, monkeypatch: pytest.MonkeyPatch, fault: str, text: str, remedy: str):
    import toy_modalities

    monkeypatch.setattr(type(toy_modalities.RED), "tokenizer", lambda self, name, fit_on: Encoder(fault))
    findings = examine(red)
    assert_one(findings, "tokenizer", "failure", text, remedy)
    assert "CANARY" not in repr(findings)


def test_anchors_that_the_modality_cannot_read(red: Path, monkeypatch: pytest.MonkeyPatch):
    import toy_modalities

    def refuse(self: object, path: Path) -> None:
        raise DataError("not a signal", where=path.name, remedy="take it out")

    monkeypatch.setattr(type(toy_modalities.RED), "read_anchor", refuse)
    first, second = troubles(examine(red), "failure")
    assert (first[0], second[0]) == ("anchors", "held out anchors")
    assert (first[1].text, first[1].remedy) == ("0.csv: not a signal", "take it out")


def test_a_file_of_somebody_else(red: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(kit: object, key: str) -> None:
        raise PermissionError(13, "Permission denied", "/kit/client.key")

    monkeypatch.setattr(connection, "_path", refuse)
    assert_one(examine(red), "certificates", "failure", "/kit/client.key: this user may not", "as the user")
