"""Who may join a run that has begun, and that after a resume nobody is taken for known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.records import ModelSpec, SiteIntroduction
from fedgram.training import rounds
from fedgram.training.admission import admit, forget
from fedgram.training.checkpoint import Checkpoint
from fedgram.training.loop import run_federation
from fedgram.training.server import ServerState, agree
from fedgram.training.session import SiteSession
from toy import Toy

GROUP = "a" * 64


@pytest.fixture(scope="module")
def introductions(toy: Toy) -> list[SiteIntroduction]:
    found = [rounds.introduce(toy.open(name)) for name in toy.sites]
    kin = {"groups": {"head": GROUP}, "shared_shapes": {"head/weight": (4, 32)}}
    return [replace(found[0], **kin), replace(found[1], **kin), found[2]]


@pytest.fixture(scope="module")
def start(toy: Toy, introductions: list[SiteIntroduction]) -> ServerState:
    return agree(introductions, toy.job)[0]


def test_a_newcomer_is_taken_in_with_its_groups(toy: Toy, start: ServerState, introductions):
    state, rejected = admit(start, [replace(introductions[0], site="late")], toy.job)
    assert rejected == {}
    assert state.modalities["late"] == start.modalities["red"]
    assert state.groups["late"] == {"head": GROUP}
    assert {site: state.groups.get(site) for site in start.modalities} == {
        "red": {"head": GROUP},
        "green": {"head": GROUP},
        "blue": None,
    }
    other = replace(introductions[0], site="late", shared_shapes={"head/weight": (9, 32)})
    assert "late" not in admit(start, [other], toy.job)[0].groups  # of another shape: no group of this run


def test_after_a_resume_everybody_is_asked_again_and_is_what_it_was(toy: Toy, start: ServerState, introductions):
    nobody = forget(start)
    assert not nobody.modalities
    state, _ = admit(nobody, reversed(introductions), toy.job)
    assert (state.modalities, state.groups) == (start.modalities, start.groups)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "0.0.0"}, "fedgram '0.0.0'"),
        ({"anchors_sha256": "0" * 64}, "anchor set '000000000000'"),
        ({"spec": ModelSpec(shapes={"q": (3, 1, 4)}, backbone="b" * 64, width=4)}, "another shared transformer"),
        ({"m": {}}, "m: "),
        ({"modality": ""}, "a modality named ''"),
        ({"modality": "im\nage"}, "a modality named 'im\\nage'"),
        ({"modality": "a/b"}, "a modality named 'a/b'"),
        ({"gram": torch.eye(3)}, "Gram of shape"),
    ],
    ids=str,
)
def test_a_site_that_changed_is_left_out_by_name_and_nobody_else(
    toy: Toy, start: ServerState, introductions, change: dict, reason: str
):
    state, rejected = admit(forget(start), [replace(introductions[0], **change), *introductions[1:]], toy.job)
    assert list(rejected) == ["red"]
    assert reason in rejected["red"]
    assert set(state.modalities) == {"green", "blue"}
    assert "red" not in state.groups
    assert state.refused == ()  # it may come back once it is right
    assert set(admit(state, introductions[:1], toy.job)[0].modalities) == {"red", "green", "blue"}


class _Cut(Exception):
    pass


def test_a_site_of_another_version_after_a_resume_does_not_train(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def cut(record: object) -> None:
        raise _Cut

    short = toy.with_job(training={"rounds": 2}, baseline=False)
    sessions = short.sessions(tmp_path)
    with pytest.raises(_Cut):
        run_federation(sessions, short.job, tmp_path / "server", cut)
    honest = SiteSession.introduce
    upgraded = {"red": "9.9.9"}
    monkeypatch.setattr(
        SiteSession,
        "introduce",
        lambda self: replace(honest(self), version=upgraded.get(self.site.name, honest(self).version)),
    )
    outcome = run_federation(sessions, short.job, tmp_path / "server")
    assert set(outcome.server.records[-1].shares) == {"green", "blue"}
    assert set(outcome.together) == {"green", "blue"}
    assert Checkpoint(tmp_path / "server", short.job).load() is None
