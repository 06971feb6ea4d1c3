"""A round at a site with differential privacy: its gradient, its noise, its account, and what leaves."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram.config.privacy import PrivacyConfig
from fedgram.errors import CheckpointError, ConfigError
from fedgram.model.per_group import trained
from fedgram.records import GlobalState, SiteUpdate
from fedgram.results import report
from fedgram.sites import guarantee as promised
from fedgram.sites.budget import FILE, MARK
from fedgram.sites.opening import reopen_site
from fedgram.sites.single import SingleSite, own_samples
from fedgram.training import private, rounds
from fedgram.training.geometry import represent_anchors
from fedgram.training.loop import run_federation
from fedgram.training.server import agree
from fedgram.training.session import SiteSession
from some_records import assert_same
from toy import Toy

SECRET = "a secret of a test, of forty characters."
SETTINGS = PrivacyConfig(epsilon=8.0, delta=1e-3)


@pytest.fixture(autouse=True)
def _known_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise that takes no seconds to calibrate: the accountant has tests of its own."""
    monkeypatch.setattr(promised, "noise_multiplier", lambda *_: 0.8)


def with_privacy(toy: Toy, *names: str, settings: PrivacyConfig = SETTINGS, **changes: Any) -> Toy:
    sites = {
        name: replace(c, secret=SECRET, privacy=settings, **changes) if name in names else c
        for name, c in toy.sites.items()
    }
    return replace(toy, sites=sites)


@pytest.fixture(scope="module")
def one(toy: Toy) -> Toy:
    return with_privacy(toy, "red").with_job(training={"local_steps": 2})


def start_of(toy: Toy) -> GlobalState:
    """The state before the first round, of all sites."""
    return agree([rounds.introduce(toy.open(name)) for name in toy.sites], toy.job)[0].state


def one_by_one(site: SingleSite, groups: Sequence[torch.Tensor], anchors: Any, consensus: Any, clip: float):
    """The slow reference: one backward a group, by autograd alone."""
    total = {name: torch.zeros_like(p) for name, p in trained(site.model).items()}
    for rows in groups:
        site.optimizer.zero_grad()
        private.group_losses(site, [rows], anchors, consensus).sum().backward()
        gradient = {n: torch.zeros_like(p) if p.grad is None else p.grad for n, p in trained(site.model).items()}
        for part in ("transformer", "adapter", "head"):
            own = {n: g for n, g in gradient.items() if n.startswith(part)}
            norm = sum(g.square().sum() for g in own.values()) ** 0.5
            for name, g in own.items():
                total[name] += g * min(1.0, clip / 3**0.5 / float(norm))
    site.optimizer.zero_grad()
    return total


@pytest.mark.parametrize(
    ("dora", "clip", "twice"), [(True, 0.05, False), (False, 100.0, False), (True, 100.0, True)]
)
def test_the_gradient_is_that_of_the_slow_loop_over_groups(one: Toy, dora: bool, clip: float, twice: bool):
    """Also where layers are computed twice instead of kept in memory."""
    run = one.with_job(adapter={"dora": dora, "magnitude": "private"})
    run = replace(run, sites={**run.sites, "red": replace(run.sites["red"], gradient_checkpointing=twice)})
    site, state = run.open("red"), start_of(run)
    with torch.no_grad():  # B = 0 would hide a mistake
        for parameter in trained(site.model).values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    groups = [torch.tensor(rows) for rows in ([0], [3, 4, 5], [1, 2], [6, 20, 21, 22])]
    anchors = represent_anchors(site).detach()
    expected = one_by_one(site, groups, anchors, state.consensus, clip)
    found = private.clipped_gradient(site, groups, anchors, state.consensus, clip)
    assert found.keys() == expected.keys()
    assert {name.split(".")[0] for name in found} == {"transformer", "adapter", "head"}
    for name, total in expected.items():
        assert total.abs().max() > 0, name
        torch.testing.assert_close(found[name].float(), total, rtol=2e-3, atol=1e-4 * total.abs().max().item())


def test_portions_do_not_change_the_gradient(one: Toy, monkeypatch: pytest.MonkeyPatch):
    site, state = one.open("red"), start_of(one)
    groups = private.rows_by_group(site)[:9]
    whole = private.clipped_gradient(site, groups, None, state.consensus, 0.3)
    monkeypatch.setattr(private, "_TOGETHER", 2)
    for name, total in private.clipped_gradient(site, groups, None, state.consensus, 0.3).items():
        torch.testing.assert_close(total, whole[name], rtol=1e-3, atol=1e-6)


def moved(toy: Toy, state: GlobalState, secret: str = SECRET, **changes: Any) -> SiteUpdate:
    """A first round of the red site."""
    site = toy.open("red")
    config = replace(site.config, secret=secret)
    site = replace(site, guarantee=replace(site.guarantee, **changes), config=config)
    return rounds.local_round(site, state, charge=lambda start: None)


def test_everything_moves_and_the_public_terms_do_without_samples(one: Toy):
    state, before = start_of(one), trained(one.open("red").model)
    assert all(d.abs().max() > 0 for d in moved(one, state).delta_B.values())
    site = one.open("red")
    rounds.local_round(site, state, charge=lambda start: None)
    for name, parameter in trained(site.model).items():
        assert not torch.equal(parameter, before[name]), name
    silent = moved(one, state, rate=1e-12, multiplier=0.0)  # nobody takes part
    assert all(d.abs().max() > 0 for d in silent.delta_B.values())


def test_no_group_moves_a_step_by_more_than_its_bound(one: Toy):
    """The whole of the step but for the noise, with and without one group, is within C of one another."""
    site, state = one.open("red"), start_of(one)
    anchors = represent_anchors(site).detach()
    groups = private.rows_by_group(site)[:6]
    whole = private.clipped_gradient(site, groups, anchors, state.consensus, 0.2)
    for k in range(6):
        rest = private.clipped_gradient(site, groups[:k] + groups[k + 1 :], anchors, state.consensus, 0.2)
        assert sum((whole[n] - rest[n]).square().sum().item() for n in whole) ** 0.5 <= 0.2 * 1.001


class Recorded:
    """The noise that rounds are given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.drawn: list[torch.Tensor] = []
        add = private.noised_mean

        def noised_mean(total, normal, *rest):
            self.drawn.append(normal)
            return add(total, normal, *rest)

        monkeypatch.setattr(private, "noised_mean", noised_mean)

    def of(self, toy: Toy, state: GlobalState, **changes: Any) -> torch.Tensor:
        self.drawn.clear()
        moved(toy, state, **changes)
        return torch.cat(self.drawn)


def test_noise_is_standard_and_independent_over_rounds_states_and_data(one: Toy, monkeypatch: pytest.MonkeyPatch):
    noise, state = Recorded(monkeypatch), start_of(one)
    first = noise.of(one, state)
    assert torch.equal(first, noise.of(one, state))  # a killed site starts again to the bit
    other = {name: b + 1e-3 for name, b in state.B.items()}
    others = {
        "round": noise.of(one, replace(state, round=1)),
        "state": noise.of(one, replace(state, B=other)),
        "settings": noise.of(one, state, clip=0.5),
        "secret": noise.of(one, state, secret=SECRET[::-1]),
    }
    n = len(first)
    assert abs(first.mean().item()) < 5 / n**0.5
    assert abs(first.var().item() - 1) < 5 * (2 / n) ** 0.5
    for name, second in others.items():
        assert abs((first * second).mean().item()) < 5 / n**0.5, name
        assert (first == second).sum() == 0, name
    steps = first.view(one.job.training.local_steps, -1)
    assert abs((steps[0] * steps[1]).mean().item()) < 5 / steps.shape[1] ** 0.5


def test_only_the_contract_of_a_private_site_leaves(one: Toy, tmp_path: Path):
    """Neither counts nor weights nor metrics, whatever the job asks for; home's geometry stays at home."""
    run = one.with_job(aggregation={"weights": "samples"}, training={"rounds": 2})
    sessions = run.sessions(tmp_path)
    sent: list[Any] = []
    for name in ("introduce", "train", "alone", "evaluate", "settle"):
        keep(sessions["red"], name, sent)
    outcome = run_federation(sessions, run.job, tmp_path / "server")
    introduction, *updates = (reply for reply in sent[:3])
    assert (introduction.samples, introduction.privacy) == (1, {"epsilon": 8.0, "delta": 1e-3})
    for update in updates:
        assert (update.samples, update.weight) == (1, 1.0)
        assert update.metrics.keys() == {"cka"}
    for evaluation in sent[3:]:
        assert evaluation.metrics == {}
        assert evaluation.prototypes == {}
    assert torch.equal(
        outcome.alone["red"].gram[: len(introduction.gram), : len(introduction.gram)], introduction.gram
    )
    assert outcome.kept["green"].metrics
    assert not (tmp_path / "red" / f"run-{outcome.server.run}" / "best.safetensors").exists()
    cards = {part: (tmp_path / "red" / part / "adapter/README.md").read_text() for part in ("result", "alone")}
    assert "(8, 0.001)-differential privacy of each group: clip 1, noise 0.8 × clip" in cards["result"]
    assert "no differential privacy was applied" in cards["alone"]
    again = reopen_site(tmp_path / "red" / "result")
    assert again.task == sessions["red"].site.task
    assert len(own_samples(again, "test")) == len(sessions["red"].site.data["test"])
    report.write(tmp_path / "report", outcome, run.job)
    text = (tmp_path / "report/report.txt").read_text().replace("\n", " ")
    assert text.startswith("Mode: plain + robust: ")
    assert "red: differentially private, (8, 0.001) for each of its groups in this job" in text
    shared = (tmp_path / "report/adapter/README.md").read_text()
    assert "1 of 3 sites promise differential privacy of each of their groups, at most (8, 0.001)" in shared


def keep(session: SiteSession, name: str, sent: list[Any]) -> None:
    answer = getattr(session, name)

    def kept(*arguments):
        sent.append(answer(*arguments))
        return sent[-1]

    setattr(session, name, kept)


def without_a_sample(toy: Toy, tmp_path: Path, group: str) -> Toy:
    """The same site, where one group has never been."""
    lines = Path(toy.sites["red"].data).read_text().splitlines()
    path = tmp_path / "less.csv"
    path.write_text("\n".join(line for line in lines if line.split(",")[2] != group) + "\n")
    return replace(toy, sites={**toy.sites, "red": replace(toy.sites["red"], data=str(path))})


def test_nothing_public_only_depends_on_a_group(one: Toy, tmp_path: Path):
    """Standardisation, task, split and the geometry of round 0 are the same without any one of them."""
    site = one.open("red")
    group = site.data["train"].groups[5]
    less = without_a_sample(one, tmp_path, group).open("red")
    assert less.task == site.task
    for name, tensor in site.initial.items():
        assert torch.equal(tensor, less.initial[name]), name
    assert [g for g in site.data["train"].groups if g != group] == [*less.data["train"].groups]
    assert site.token_prints() == less.token_prints()
    ours, theirs = rounds.introduce(site), rounds.introduce(less)
    assert_same(ours, theirs)


def test_the_account_fails_closed(one: Toy, tmp_path: Path):
    state, folder = start_of(one), tmp_path / "red"
    session = SiteSession(one.open("red"), folder)
    first = session.train("a", state)
    again = SiteSession(one.open("red"), folder).train("a", state)  # restarted: the same bytes, charged once
    assert_same(first, replace(again, metrics=first.metrics))
    jobs = json.loads((folder / FILE).read_text())["jobs"]
    assert [len(job["rounds"]) for job in jobs.values()] == [1]
    with pytest.raises(ConfigError, match="red: privacy: the budget is used up"):
        SiteSession(one.open("red"), folder).train("another", state)
    text = (folder / FILE).read_text()
    (folder / FILE).write_text(text.replace('"epsilon": 8.0', '"epsilon": 4.0'))
    with pytest.raises(CheckpointError, match="checksum"):
        SiteSession(one.open("red"), folder).train("a", state)
    (folder / FILE).write_text("{")
    with pytest.raises(CheckpointError, match="damaged"):
        SiteSession(one.open("red"), folder).train("a", state)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match="no account"):
        SiteSession(one.open("red"), folder).train("a", state)
    (folder / FILE).write_text(text)
    (mark,) = folder.glob(f"run-a.*/{MARK}")
    mark.write_text("2")
    with pytest.raises(CheckpointError, match="older"):
        SiteSession(one.open("red"), folder).train("a", state)


def test_a_round_asked_again_with_another_state_is_charged_again(one: Toy, tmp_path: Path):
    state = start_of(one)
    run = with_privacy(one, "red", settings=replace(SETTINGS, budget=9.0))
    session = SiteSession(run.open("red"), tmp_path)

    def ask(numbers: range) -> None:
        for number in numbers:
            session.train("a", replace(state, B={k: b + number * 1e-3 for k, b in state.B.items()}))

    ask(range(3))  # so many rounds were planned
    with pytest.raises(ConfigError, match="used up"):
        ask(range(3, 12))
    steps = [sum(j["rounds"].values()) for j in json.loads((tmp_path / FILE).read_text())["jobs"].values()]
    assert 6 <= steps[0] < 24


def test_without_an_account_or_a_secret_nothing_is_trained(one: Toy, tmp_path: Path):
    with pytest.raises(ConfigError, match="no account"):
        rounds.local_round(one.open("red"), start_of(one))
    for secret in (None, "", "hospital"):
        config = replace(one.sites["red"], secret=secret)
        with pytest.raises(ConfigError, match="red: secret"):
            SiteSession(replace(one.open("red"), config=config), tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"delta": 0.03}, "delta 0.03 with"),
        ({"method": "fedproto"}, "method 'fedproto'"),
        ({"method": "fedit"}, "method 'fedit'"),
    ],
)
def test_what_no_noise_covers_is_refused_when_the_site_opens(one: Toy, changes: dict[str, Any], match: str):
    job = one.job
    config = replace(one.sites["red"], methods=("geo", "fedproto", "fedit"))
    if "delta" in changes:
        config = replace(config, privacy=replace(SETTINGS, delta=changes["delta"]))
    if "method" in changes:
        job = one.with_job(method={"name": changes["method"]}, adapter={"dora": False, "magnitude": "private"}).job
    run = replace(one, job=job, sites={**one.sites, "red": config})
    with pytest.raises(ConfigError, match=match) as caught:
        run.open("red")
    assert "red: privacy" in str(caught.value)


def test_what_home_has_learnt_is_in_no_later_introduction(
    one: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Home is trained without noise; the disk is full when it is to be kept, and round 0 is asked for again."""
    session = SiteSession(one.open("red"), tmp_path)
    before = session.introduce()

    def full(self: SiteSession, run: str, name: str) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(SiteSession, "_keep", full)
        with pytest.raises(OSError, match="no space"):
            session.alone("run")
    assert torch.equal(session.site.model.embed(session.site.anchors.tokens), embedded(one))
    rounds.train_alone(session.site)
    assert torch.equal(session.introduce().gram, before.gram)


def embedded(run: Toy) -> torch.Tensor:
    site = run.open("red")
    return site.model.embed(site.anchors.tokens)


def test_a_run_from_before_the_promise_is_not_gone_on_with(toy: Toy, one: Toy, tmp_path: Path):
    """Its state was trained without noise, and the server can name it."""
    plain = replace(one, sites=toy.sites)
    state, pilot = start_of(one), SiteSession(plain.open("red"), tmp_path / "pilot")
    for number in range(2):
        pilot.train("pilot", replace(state, round=number))
    del pilot
    asked = replace(state, round=2)
    after = SiteSession(one.open("red"), tmp_path / "pilot").evaluate("pilot", asked)
    fresh = SiteSession(one.open("red"), tmp_path / "fresh").evaluate("pilot", asked)
    assert torch.equal(after.gram, fresh.gram)
    assert not torch.equal(
        SiteSession(plain.open("red"), tmp_path / "pilot").evaluate("pilot", asked).gram, after.gram
    )
