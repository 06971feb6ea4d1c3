"""A site's own state between rounds and jobs: exact or an error, and of each run for itself."""

from __future__ import annotations

import os
import random
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.errors import CheckpointError, ConfigError
from fedgram.records import GlobalState, SiteUpdate
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from fedgram.training.saved_rounds import load_before, prune_runs, save_round
from fedgram.training.server import agree
from fedgram.training.session import SiteSession
from safetensors.torch import load_file
from some_records import assert_same
from toy import Toy

STATE = {"B/q": torch.arange(12.0).reshape(3, 4), "optimizer/0/step": torch.tensor(7.0)}


def named(round: int) -> str:
    return f"round-{round:05d}.safetensors"


def saved(folder: Path, *numbers: int) -> Path:
    """A folder in which these rounds were saved, one after the other."""
    for number in numbers:
        save_round(folder, number, {"round": torch.tensor(number)})
    return folder


def test_every_damage_of_a_round_is_noticed_and_its_copy_is_used(tmp_path: Path, caplog):
    save_round(tmp_path, 1, STATE)
    path, draw = tmp_path / named(1), random.Random(0)
    whole = path.read_bytes()
    half = len(whole) // 2
    places = [*range(8), *(draw.randrange(len(whole)) for _ in range(300))]
    flipped = [whole[:i] + bytes([whole[i] ^ 1 << draw.randrange(8)]) + whole[i + 1 :] for i in places]
    cut = [whole[:half], bytes(half) + whole[half:], whole[:half] + bytes(len(whole) - half), b"", whole + b"x"]
    for data in [*flipped, *cut]:
        path.write_bytes(data)
        caplog.clear()
        assert_same(STATE, load_before(tmp_path, 2))
        assert "its copy is used" in caplog.text
    path.unlink()
    assert_same(STATE, load_before(tmp_path, 2))


def test_a_round_whose_copies_are_both_damaged_is_named_and_never_replaced_by_another(tmp_path: Path):
    saved(tmp_path, 1, 2)
    for folder in (tmp_path, tmp_path / "copy"):
        (folder / named(2)).write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"(?s)round-00002\.safetensors: damaged.*remedy: restore it, or delete"
    ):
        load_before(tmp_path, 3)
    assert load_before(tmp_path, 2) == {"round": torch.tensor(1)}


def test_the_rounds_that_a_server_may_go_back_to_are_kept_and_others_refused(tmp_path: Path):
    saved(tmp_path, 1, 2, 3, 4, 5)
    assert [load_before(tmp_path, round) for round in (4, 5, 6)] == [{"round": torch.tensor(r)} for r in (3, 4, 5)]
    with pytest.raises(
        CheckpointError, match=r"(?s)after round 2 is not kept any more, and round 3 begins with it"
    ):
        load_before(tmp_path, 3)


def test_a_site_that_came_late_begins_as_it_was_opened(tmp_path: Path):
    saved(tmp_path, 6, 7)
    assert load_before(tmp_path, 6) is None
    assert load_before(tmp_path / "none", 6) is None


def test_a_round_that_is_done_again_takes_those_after_it_away(tmp_path: Path):
    saved(tmp_path, 1, 2, 3, 2)
    assert load_before(tmp_path, 9) == {"round": torch.tensor(2)}


class Jobs:
    """Two jobs at one site, with one folder or each with its own."""

    def __init__(self, toy: Toy):
        runs = {run: toy.with_job(seed=seed, aggregation={"min_sites": 1}) for run, seed in (("a", 0), ("b", 1))}
        self.sites: dict[str, SingleSite] = {run: jobs.open("red") for run, jobs in runs.items()}
        self.states: dict[str, GlobalState] = {
            run: agree([rounds.introduce(self.sites[run])], jobs.job)[0].state for run, jobs in runs.items()
        }

    def train(self, run: str, round: int, folder: Path) -> SiteUpdate:
        """A round in a process that was just started, as after every crash."""
        session = SiteSession(self.sites[run], folder)
        update = session.train(run, replace(self.states[run], round=round))
        return replace(update, metrics={})  # with the seconds

    def evaluate(self, run: str, folder: Path) -> dict[str, torch.Tensor]:
        SiteSession(self.sites[run], folder).evaluate(run, replace(self.states[run], round=3))
        return load_file(folder / "result" / "local.safetensors")


@pytest.fixture(scope="module")
def jobs(toy: Toy) -> Jobs:
    return Jobs(toy)


def test_two_jobs_at_one_site_do_not_touch_each_other(jobs: Jobs, tmp_path: Path):
    order = [("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 2), ("b", 2)]
    apart = {step: jobs.train(*step, tmp_path / step[0]) for step in sorted(order)}
    together = {step: jobs.train(*step, tmp_path / "both") for step in order}
    for step in order:
        assert_same(apart[step], together[step])
    results = {run: jobs.evaluate(run, tmp_path / run) for run in "ab"}
    assert any(not torch.equal(tensor, results["b"][name]) for name, tensor in results["a"].items())
    for run in "ab":
        assert_same(results[run], jobs.evaluate(run, tmp_path / "both"))  # the last that finished
    for run in "ab":
        assert_same(results[run], load_file(tmp_path / "both" / f"run-{run}" / "result" / "local.safetensors"))
    assert {path.name for path in (tmp_path / "both").iterdir()} == {"lock", "result", "run-a", "run-b"}


def test_a_site_with_nothing_of_the_rounds_before_says_that_it_begins_anew(jobs: Jobs, tmp_path: Path, caplog):
    jobs.train("a", 0, tmp_path)
    jobs.train("a", 1, tmp_path)
    assert "begins as it was opened" not in caplog.text
    shutil.rmtree(tmp_path / "run-a")
    jobs.train("a", 1, tmp_path)
    assert "red: it begins as it was opened" in caplog.text


def test_an_evaluation_of_an_earlier_round_sets_no_later_one_back(jobs: Jobs, tmp_path: Path, monkeypatch):
    """At a site without validation samples, which keeps no best round: a server could have it train anew."""
    monkeypatch.setattr(SingleSite, "validation_loss", lambda _: None)
    sessions = [SiteSession(jobs.sites["a"], tmp_path / name) for name in ("undisturbed", "asked")]
    replies = []
    for session in sessions:
        session.train("a", replace(jobs.states["a"], round=0))
        if session is sessions[1]:
            session.evaluate("a", replace(jobs.states["a"], round=0))
        replies.append(session.train("a", replace(jobs.states["a"], round=1)))
    assert_same(replies[0].delta_B, replies[1].delta_B)


@pytest.mark.parametrize("name", ["../x", "a/b", "x/..", "", ".", "y" * 65, "a.b"])
def test_a_run_whose_name_is_a_path_is_refused_and_nothing_is_written(toy: Toy, tmp_path: Path, name: str):
    """The server chooses it, and it becomes a part of a path."""
    session = SiteSession(toy.open("red"), tmp_path / "state" / "red")
    with pytest.raises(ConfigError, match="a run named"):
        session.alone(name)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A site's folder with runs of so many hours of age."""
    for hours in (1, 12, 25, 26, 27, 28, 24 * 31):
        age(saved(tmp_path / f"run-{hours}", 1), hours)
    return tmp_path


def age(run: Path, hours: float) -> None:
    (run / "lock").touch()
    os.utime(run, (time.time() - hours * 3600,) * 2)


def left(folder: Path) -> set[str]:
    return {path.name.removeprefix("run-") for path in folder.glob("run-*")}


def test_runs_are_pruned_by_age_and_number(old: Path):
    prune_runs(old, old / "run-28")
    assert left(old) == {"1", "12", "25", "26", "28"}
    for run in ("1", "25"):
        age(old / f"run-{run}", 24 * 31)
    prune_runs(old, old / "run-28")
    assert left(old) == {"12", "26", "28"}


def test_results_half_published_are_pruned_after_a_day(old: Path):
    for name, hours in ((".result-a", 25), (".alone-b", 1)):
        (old / name / "new").mkdir(parents=True)
        os.utime(old / name, (time.time() - hours * 3600,) * 2)
    prune_runs(old, old / "run-28")
    assert {path.name for path in old.glob(".*")} == {".alone-b"}


def test_a_run_in_use_is_never_pruned(jobs: Jobs, old: Path):
    using = SiteSession(jobs.sites["a"], old)
    using.evaluate("744", jobs.states["a"])
    age(old / "run-744", 24 * 31)
    prune_runs(old, old / "run-1")
    assert "744" in left(old)
    del using
    prune_runs(old, old / "run-1")
    assert "744" not in left(old)


def test_the_result_is_of_the_round_with_the_lowest_validation_loss_also_after_a_restart(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    losses = iter([0.9, 0.4, 0.7, 0.8])  # of the models of rounds 0 to 3
    monkeypatch.setattr(SingleSite, "validation_loss", lambda _: next(losses))
    state = agree([rounds.introduce(toy.open(name)) for name in toy.sites], toy.job)[0].state
    session = SiteSession(toy.open("red"), tmp_path)
    seen = []
    for round in range(3):
        if round == 2:
            session = SiteSession(toy.open("red"), tmp_path)  # knows what it kept from its folder alone
        session.train("run", replace(state, round=round))
        seen.append({name: tensor.clone() for name, tensor in session.site.model.local_state().items()})
    session.evaluate("run", replace(state, round=3))
    kept = load_file(tmp_path / "result" / "local.safetensors")
    assert_same(seen[0], {name: kept[f"local/{name}"] for name in seen[0]})
