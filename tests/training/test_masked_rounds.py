"""Masked jobs in the plain loop: the model of the plain mean, bit for bit, and what nobody gets to see."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram.config.job import AggregationConfig
from fedgram.errors import ConfigError, MaskRefused, RoundFailed, UpdateRejected
from fedgram.records import RoundRecord, SiteUpdate
from fedgram.results import report
from fedgram.sites.opening import require_mode
from fedgram.training import contracts
from fedgram.training.averages import B, M
from fedgram.training.loop import asking, run_federation
from fedgram.training.masked.gathering import MaskedSum
from fedgram.training.masked.member import Member
from fedgram.training.masked.messages import SumCall, digest
from fedgram.training.masked.rounds import first_consensus, masked_round
from fedgram.training.masked.shapes import GRAM, WEIGHT, shapes_of
from fedgram.training.masked.values import gram_value, masked_values, update_values
from fedgram.training.outcome import Outcome
from fedgram.training.server import ServerState, agree
from masked_toy import NAMES, RULES, four
from some_records import assert_same
from toy import Toy

SHORT: dict[str, Any] = {"training": {"rounds": 2, "local_steps": 1}, "baseline": False}


class PowerCut(Exception):
    pass


def run(toy: Toy, folder: Path, on_round: Any = lambda record: None) -> Outcome:
    return run_federation(toy.sessions(folder), toy.job, folder / "server", on_round)


@pytest.fixture(scope="module")
def federation(toy: Toy) -> Toy:
    return four(toy, **SHORT)


@pytest.fixture(scope="module")
def finished_run(federation: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[Outcome, Path]:
    folder = tmp_path_factory.mktemp("masked")
    return run(federation, folder), folder


def test_a_masked_run_ends_with_the_model_of_a_plain_one(toy: Toy, finished_run, tmp_path: Path):
    plain, masked = run(four(toy, masked=False, **SHORT), tmp_path), finished_run[0]
    for name in ("B", "m", "consensus", "round"):
        assert_same(getattr(masked.server.state, name), getattr(plain.server.state, name))
    plain_records, masked_records = plain.server.records, masked.server.records
    assert [r.mean_update_norm for r in masked_records] == [r.mean_update_norm for r in plain_records]


def test_of_one_site_the_server_has_nothing_but_bytes(federation: Toy, finished_run, tmp_path: Path):
    outcome, folder = finished_run
    for record in outcome.server.records:
        assert record.metrics == {name: {} for name in NAMES}
        assert not record.shares
        assert not record.update_norms
        assert not record.samples
    for evaluation in (*outcome.together.values(), *outcome.kept.values()):
        assert evaluation.metrics == {}
        assert evaluation.gram.numel() == 0
        contracts.check_evaluation(evaluation, federation.job)
    assert '"accuracy"' in (folder / "red" / "result" / "site.json").read_text()  # the site itself knows
    report.write(tmp_path / "report", outcome, federation.job)
    page = (tmp_path / "report" / "report.html").read_text()
    assert "the server gets sums over the sites alone" in page


def started(federation: Toy, folder: Path) -> tuple[dict, ServerState]:
    sessions = federation.sessions(folder)
    state, rejected = agree([session.introduce() for session in sessions.values()], federation.job)
    assert not rejected
    return sessions, first_consensus(state, federation.job, asking(sessions))


@pytest.fixture(scope="module")
def first(federation: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, ServerState]:
    return started(federation, tmp_path_factory.mktemp("first"))


def test_a_round_that_falls_apart_leaves_the_model_and_the_next_goes_on(federation: Toy, tmp_path: Path):
    sessions, state = started(federation, tmp_path)

    def ask(phase, calls, receive, refuse):
        lost = {"red", "violet"} if phase == "reveal" else set()
        asking(sessions, state.state)(phase, {k: c for k, c in calls.items() if k not in lost}, receive, refuse)

    after = masked_round(state, federation.job, sessions, ask)
    assert after.state.round == 1
    assert_same(after.state.B, state.state.B)
    assert after.notes == ("round 1: 2 sites gave the shares that take the masks off; the model stays as it was",)
    assert after.records[0].metrics == {}
    state = after
    after = masked_round(after, federation.job, sessions, asking(sessions, after.state))
    assert list(after.records[1].metrics) == list(NAMES)


LIES = {  # by label of the value that a site changes after its own check
    "weights of -": (WEIGHT, -(2**36) * 10**4),
    "weights of 1": (WEIGHT, 2**36 * 10**6),
    "a mean update of norm": (B, 2**60),
    "m of 'base_model": (M, 2**50),
    "a mean Gram with an entry of size": (GRAM, 2**40),
}


def test_a_sum_that_honest_sites_cannot_have_leaves_the_model_and_the_next_goes_on(toy: Toy, tmp_path: Path):
    """One lie a round, and an honest round at the end; masks hide from the server who it was."""
    run = four(toy, training={"rounds": len(LIES) + 1, "local_steps": 1}, baseline=False)
    sessions, before = started(run, tmp_path)
    honest, state, lies = Member.mask, before, [*LIES.items()]

    def mask(self: Member, call: SumCall, values: dict) -> object:
        part, added = lies[call.round - 1][1] if self.name == "red" else ("none", 0)
        return honest(self, call, {k: v + added if k.startswith(part) else v for k, v in values.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "mask", mask)
        for number, (said, _) in enumerate(lies, 1):
            state = masked_round(state, run.job, sessions, asking(sessions, state.state))
            assert state.notes[-1].startswith(f"round {number}: the masked sum holds {said}")
    assert len(state.notes) == len(LIES)
    assert "red" not in "".join(state.notes)
    for name in ("B", "m", "consensus"):
        assert_same(getattr(state.state, name), getattr(before.state, name))
    state = masked_round(state, run.job, sessions, asking(sessions, state.state))
    assert list(state.records[-1].metrics) == list(NAMES)
    assert any(b.any() for b in state.state.B.values())
    assert all(b.isfinite().all() for b in state.state.B.values())


def test_a_first_sum_that_is_none_of_gram_matrices_ends_the_job(federation: Toy, tmp_path: Path):
    honest = Member.mask

    def mask(self: Member, call: SumCall, values: dict) -> object:
        return honest(self, call, {label: value + 2**45 for label, value in values.items()})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Member, "mask", mask)
        with pytest.raises(UpdateRejected, match="round 0: the masked sum holds a mean Gram"):
            started(federation, tmp_path)


def test_a_job_that_is_aborted_in_mid_sum_ends(federation: Toy, first):
    """Its round is none that fell apart: it is done when the job goes on."""
    sessions, state = first

    def ask(phase, calls, receive, refuse):
        if phase == "confirm":
            raise RoundFailed("aborted")
        asking(sessions, state.state)(phase, calls, receive, refuse)

    with pytest.raises(RoundFailed, match="aborted"):
        masked_round(state, federation.job, sessions, ask)


def test_a_round_of_two_sites_does_not_begin(federation: Toy, first):
    sessions, state = first
    with pytest.raises(RoundFailed, match="2 sites gave keys"):
        masked_round(state, federation.job, ("red", "blue"), asking(sessions, state.state))


@pytest.mark.parametrize(("number", "batch"), [(1, 32), (2, 1000)])
def test_a_second_run_with_nearly_the_same_rounds_opens_no_site(toy: Toy, tmp_path: Path, number: int, batch: int):
    """Violet, left out of it, would be the difference of both sums.

    To 1e-4 where the state is moved by a trifle, and where all samples are one batch also in another round.
    """
    run = four(toy, training={"rounds": 2, "local_steps": 1, "batch_size": batch}, baseline=False)
    sessions, state = started(run, tmp_path)
    masked_round(state, run.job, sessions, asking(sessions, state.state))
    moved = replace(state.state, round=number - 1, consensus=state.state.consensus + 1e-6)
    again = MaskedSum("another", number, run.job, shapes_of(run.job, moved), state=digest(moved))
    with pytest.raises(RoundFailed, match=r"0 sites confirmed(.|\n)*seed 0: a sum over other sites"):
        again.gather(("blue", "green", "red"), asking(sessions, moved))


@pytest.mark.slow
def test_a_run_that_is_cut_ends_with_the_same_bits(federation: Toy, finished_run, tmp_path: Path):
    def cut(record: RoundRecord) -> None:
        raise PowerCut

    with pytest.raises(PowerCut):
        run(federation, tmp_path, cut)
    resumed = run(federation, tmp_path)
    assert_same(resumed.server.state, finished_run[0].server.state)


# --- what a site looks at before it masks


def test_no_update_of_a_masked_job_goes_by_itself(first):
    sessions, state = first
    with pytest.raises(MaskRefused, match="red: an update without masks"):
        sessions["red"].train(state.run, state.state)


def an_update(state: ServerState) -> SiteUpdate:
    return SiteUpdate(
        site="red",
        round=1,
        anchors_sha256=state.state.anchors_sha256,
        delta_B={k: torch.zeros_like(b, dtype=torch.bfloat16) for k, b in state.state.B.items()},
        m={k: m.clone() for k, m in state.state.m.items()},
        gram=torch.eye(4),
        slots=(0, 1, 2, 3),
        weight=1.0,
        samples=5,
    )


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        (lambda v: v.fill_(float("nan")), UpdateRejected, "values that are not finite"),
        (lambda v: v.fill_(1000.0), UpdateRejected, "an update of norm"),
    ],
)
def test_what_the_server_cannot_see_the_site_checks(federation: Toy, first, change, kind, said: str):
    update, pairs = an_update(first[1]), torch.ones(12, 12, dtype=torch.bool)
    arguments = (first[1].state, federation.job, first[1].magnitudes, pairs, 4)
    assert set(update_values(update, *arguments)) >= {"weight", "G"}
    change(next(iter(update.delta_B.values())))
    with pytest.raises(kind, match=said):
        update_values(update, *arguments)
    heavy = replace(an_update(first[1]), weight=1e4)
    with pytest.raises(UpdateRejected, match="weight 10000"):
        update_values(heavy, *arguments)


def test_magnitudes_far_from_the_base_are_not_masked(federation: Toy, first):
    update, pairs = an_update(first[1]), torch.ones(12, 12, dtype=torch.bool)
    next(iter(update.m.values()))[0] = 90.0
    with pytest.raises(UpdateRejected, match=r"m of .* to 90"):
        update_values(update, first[1].state, federation.job, first[1].magnitudes, pairs, 4)


def test_of_a_pair_of_anchors_that_is_not_summed_nothing_is_sent():
    """And the consensus says that it does not know, where a mean over no site would be 0."""
    pairs = torch.tensor([[True, True, False], [True, True, False], [False, False, False]])
    gram = torch.tensor([[1.0, 0.5, 0.25], [0.5, 1.0, 0.25], [0.25, 0.25, 1.0]])
    assert gram_value(gram, (0, 1, 2), pairs).bool().equal(pairs)
    assert gram_value(gram[:2, :2], (1, 2), pairs).nonzero().tolist() == [[1, 1]]


def test_the_consensus_of_a_pair_that_two_sites_have_is_unknown(toy: Toy, tmp_path: Path):
    """Green has red's data but for a concept, as blue has: two of four are left for its pairs."""
    run = four(toy, **SHORT)
    run = replace(run, sites={**run.sites, "green": run.sites["blue"]})
    _, state = started(run, tmp_path)
    oak = [slot for slot, name in enumerate(run.job.anchors.concepts) if name == missing_at_blue(run)]
    consensus = state.state.consensus
    assert consensus[oak].isnan().all()
    rest = [slot for slot in range(len(consensus)) if slot not in oak]
    assert consensus[rest][:, rest].isfinite().all()


def missing_at_blue(run: Toy) -> str:
    there = set(run.open("blue").anchors.slots)
    (name,) = {concept for slot, concept in enumerate(run.job.anchors.concepts) if slot not in there}
    return name


def test_a_value_without_room_is_refused(federation: Toy, first):
    job = federation.with_job(aggregation={"weights": "samples"}).job
    update = replace(an_update(first[1]), weight=3e7, samples=30_000_000)
    pairs = torch.ones(12, 12, dtype=torch.bool)
    with pytest.raises(MaskRefused, match=r"red: weight: weighted size 3e\+07\n  expected: at most 1.68e\+07"):
        update_values(update, first[1].state, job, first[1].magnitudes, pairs, 4)


def test_a_state_that_does_not_fit_the_keys_trains_nothing(federation: Toy, first):
    """A server that sends another state under the same masks."""
    sessions, state = first
    calls = {}

    def ask(phase, asked, receive, refuse):
        calls[phase] = asked["red"]
        asking(sessions, state.state)(phase, asked, receive, refuse)

    masked_round(state, federation.job, sessions, ask)
    red = sessions["red"]
    other = replace(state.state, B={k: b + 1 for k, b in state.state.B.items()})
    for tried in (other, replace(state.state, round=1), None):
        with pytest.raises(MaskRefused, match="a sum of another state than comes with it"):
            masked_values(red.site, red._member, calls["masked"], tried, lambda run, state: pytest.fail("trained"))


def test_a_round_that_is_asked_for_after_a_later_one_trains_nothing(federation: Toy, tmp_path: Path):
    """It would set the site back, and a later round without violet would begin where one with violet has begun."""
    sessions, state = started(federation, tmp_path)
    calls = {}

    def ask(phase, asked, receive, refuse):
        calls.setdefault(phase, asked["red"])
        asking(sessions, state.state)(phase, asked, receive, refuse)

    after = masked_round(state, federation.job, sessions, ask)
    masked_round(after, federation.job, sessions, asking(sessions, after.state))
    red = sessions["red"]
    with pytest.raises(MaskRefused, match="round 1 after round 2"):
        masked_values(red.site, red._member, calls["masked"], state.state, lambda *_: pytest.fail("trained"))


# --- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [("clip", 2.0), ("rule", "median"), ("mixing", True), ("consensus", "median"), ("max_share", 0.5)],
)
def test_a_rule_that_would_see_single_replies_is_refused_by_name(name: str, value: Any):
    with pytest.raises(ConfigError, match=rf"aggregation.{name}: .* in a masked job\n.*\n  remedy: set {name} to"):
        AggregationConfig(masked=True, **{**RULES, name: value})


@pytest.mark.parametrize("method", ["fedit", "fedproto", "per_modality"])
def test_a_method_that_sends_more_is_refused_by_name(toy: Toy, method: str):
    from fedgram.methods import method_of

    changes: dict[str, Any] = {"method": {"name": method}, "adapter": {"dora": False, "magnitude": "private"}}
    with pytest.raises(ConfigError, match=rf"method '{method}' in a masked job(.|\n)*remedy: take method 'geo'"):
        method_of(four(toy, **changes).job)


@pytest.mark.parametrize(
    ("masked", "changes", "said"),
    [
        (False, {"require": ("masked",)}, "red: require: a job whose server sees each site's numbers"),
        (True, {"share": ("concepts",)}, r"red: share: \['concepts'\] in a masked job"),
        (True, {"secret": ""}, "red: secret: a secret of 0 characters, in a masked job"),
        (
            True,
            {"secret": "abc"},
            r"red: secret: a secret of 3 characters, in a masked job\n  expected: at least 32",
        ),
    ],
)
def test_a_site_refuses_a_mode_that_its_file_does_not_allow(toy: Toy, masked: bool, changes: Any, said: str):
    run = four(toy, masked=masked)
    with pytest.raises(ConfigError, match=said):
        require_mode("red", replace(run.sites["red"], **changes), run.job)
    require_mode("red", replace(run.sites["red"], require=("masked",) * masked), run.job)


def test_an_introduction_with_numbers_of_a_site_is_refused(federation: Toy, first, tmp_path: Path):
    sessions, _ = first
    reply = sessions["red"].introduce()
    assert reply.samples == 0
    contracts.check_introduction(reply, federation.job)
    for changed in ({"samples": 5}, {"gram": torch.eye(len(reply.slots))}):
        with pytest.raises(UpdateRejected, match="G, samples or groups in a masked job"):
            contracts.check_introduction(replace(reply, **changed), federation.job)
    evaluation = sessions["red"].evaluate("run", first[1].state)
    with pytest.raises(UpdateRejected, match="numbers of one site in a masked job"):
        contracts.check_evaluation(replace(evaluation, metrics={"loss": 1.0}), federation.job)
