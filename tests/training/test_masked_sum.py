"""The protocol of masked sums between sites that have nothing but numbers: sums, drop-outs, lies."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any

import pytest
import torch
from fedgram import files
from fedgram.config.job import AggregationConfig, AnchorPin, JobConfig
from fedgram.core.masks import derived, public_key
from fedgram.errors import CheckpointError, FedgramError, MaskRefused, RoundFailed, UpdateRejected
from fedgram.training.masked import memory
from fedgram.training.masked.gathering import MaskedSum
from fedgram.training.masked.identity import Unsigned
from fedgram.training.masked.member import Member, pair_seed
from fedgram.training.masked.memory import Memory
from fedgram.training.masked.messages import (
    CONFIRM,
    KEYS,
    MASKED,
    PHASES,
    REVEAL,
    SHARES,
    SumCall,
)

SIX = ("ant", "bee", "cat", "dog", "elk", "fox")
JOB = JobConfig(
    AnchorPin("0" * 64, ("oak",) * 4),
    aggregation=AggregationConfig(masked=True, clip=0, max_share=1, min_sites=3),
)
SHAPES = {"G": (2, 2), "weight": ()}


def value_of(name: str, round: int = 1) -> dict[str, torch.Tensor]:
    drawn = random.Random(f"{name} {round}")
    numbers = [drawn.randrange(-(2**63), 2**63) for _ in range(5)]
    return {"G": torch.tensor(numbers[:4]).reshape(2, 2), "weight": torch.tensor(numbers[4])}


def member(name: str, folder: Path, *, slots: tuple[int, ...] = (0, 1, 2, 3), identity: Any = None) -> Member:
    return Member(
        name=name,
        secret=f"{name}'s own",
        job=JOB.fingerprint(),
        seed=JOB.seed,
        anchors=4,
        slots=slots,
        identity=identity or Unsigned(),
        memory=Memory(folder / name),
    )


class Sites:
    """Sites to ask, of which some are gone from a phase on, and one may lie.

    Args:
        gone: the first phase that a site does not answer, by site.
        lie: of a phase and an answer, what is sent instead.
    """

    def __init__(
        self,
        members: Iterable[Member],
        gone: Mapping[str, str] | None = None,
        lie: Callable[[str, Any], Any] = lambda phase, reply: reply,
    ):
        self.members = {one.name: one for one in members}
        self.gone, self.lie = gone or {}, lie
        self.calls: dict[str, dict[str, SumCall]] = {}
        self.sent: list[tuple[str, Any]] = []

    def ask(self, phase: str, calls: Mapping[str, SumCall], receive: Any, refuse: Any) -> None:
        self.calls[phase] = dict(calls)
        for name in random.sample(sorted(calls), len(calls)):
            if name in self.gone and PHASES.index(phase) >= PHASES.index(self.gone[name]):
                continue
            try:
                reply = self.answer(phase, name, calls[name])
                self.sent.append((phase, reply))
                receive(self.lie(phase, reply))
            except FedgramError as error:
                refuse(name, str(error))

    def answer(self, phase: str, name: str, call: SumCall) -> Any:
        one = self.members[name]
        if phase == MASKED:
            return one.mask(call, value_of(name, call.round))
        method = {KEYS: one.keys, SHARES: one.shares, CONFIRM: one.confirm, REVEAL: one.reveal}[phase]
        return method(call)


def six(folder: Path, **options: Any) -> Sites:
    return Sites([member(name, folder) for name in SIX], **options)


def a_sum(round: int = 1, run: str = "run", **options: Any) -> MaskedSum:
    return MaskedSum(run, round, JOB, SHAPES, **options)


def assert_sum(found: Mapping[str, torch.Tensor], names: Iterable[str], round: int = 1) -> None:
    values = [value_of(name, round) for name in names]
    for label in SHAPES:
        assert torch.equal(found[label], torch.stack([value[label] for value in values]).sum(0)), label


def test_the_sum_is_that_of_the_values_whoever_is_first(tmp_path: Path):
    current = a_sum()
    assert_sum(current.gather(SIX, six(tmp_path).ask), SIX)
    assert current.survivors == SIX
    assert current.bytes == dict.fromkeys(SIX, 40)


@pytest.mark.parametrize("phase", PHASES)
def test_a_third_may_drop_out_in_any_phase(tmp_path: Path, phase: str):
    """Before the masked values they are not summed, after them they are."""
    current, gone = a_sum(), ("bee", "fox")
    found = current.gather(SIX, six(tmp_path, gone=dict.fromkeys(gone, phase)).ask)
    rest = tuple(name for name in SIX if name not in gone)
    assert_sum(found, rest if phase in (KEYS, SHARES, MASKED) else SIX)
    assert not current.rejected


def test_one_site_may_drop_out_in_each_of_two_phases(tmp_path: Path):
    found = a_sum().gather(SIX, six(tmp_path, gone={"ant": SHARES, "elk": MASKED}).ask)
    assert_sum(found, ("bee", "cat", "dog", "fox"))


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (SHARES, "3 sites gave shares"),
        (MASKED, "3 sites gave masked"),
        (CONFIRM, "3 sites confirmed"),
        (REVEAL, "3 sites gave the shares that"),
    ],
)
def test_more_than_a_third_are_too_many(tmp_path: Path, phase: str, said: str):
    sites = six(tmp_path, gone=dict.fromkeys(("ant", "cat", "dog"), phase))
    current = a_sum(round=4)
    with pytest.raises(RoundFailed, match=rf"round 4: {said}.*\n  expected: at least 4"):
        current.gather(SIX, sites.ask)
    assert current.fell_apart
    sites.gone = {}
    assert_sum(a_sum(round=5).gather(SIX, sites.ask), SIX, 5)  # the next round goes on


def test_a_sum_over_two_sites_does_not_begin(tmp_path: Path):
    current = a_sum()
    with pytest.raises(RoundFailed, match=r"2 sites gave keys\n  expected: at least 3"):
        current.gather(SIX[:2], six(tmp_path).ask)
    assert not current.fell_apart


Asked = tuple[Sites, Path]


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Asked:
    """Six sites after an honest sum, and the folder of their memories."""
    folder = tmp_path_factory.mktemp("asked")
    sites = six(folder)
    a_sum().gather(SIX, sites.ask)
    return sites, folder


@pytest.fixture
def calls(asked: Asked) -> dict[str, SumCall]:
    """Everything that the server has asked of the ant, by phase."""
    return {phase: calls["ant"] for phase, calls in asked[0].calls.items()}


@pytest.fixture
def ant(asked: Asked, tmp_path: Path) -> Member:
    """The ant after that sum, in another process."""
    shutil.copytree(asked[1] / "ant", tmp_path / "ant")
    return member("ant", tmp_path)


@pytest.fixture
def fresh(tmp_path: Path) -> Member:
    """The ant that remembers nothing."""
    return member("ant", tmp_path / "elsewhere")


def test_a_site_that_is_killed_and_asked_again_answers_alike(asked: Asked, calls: dict[str, SumCall], ant: Member):
    """The shares are drawn anew, of the same secrets."""
    first, again = {phase: reply for phase, reply in asked[0].sent if reply.site == "ant"}, ant
    assert again.keys(calls[KEYS]) == first[KEYS]
    assert again.shares(calls[SHARES]).seed_print == first[SHARES].seed_print
    assert torch.equal(again.mask(calls[MASKED], value_of("ant")).sums["G"], first[MASKED].sums["G"])
    assert again.confirm(calls[CONFIRM]) == first[CONFIRM]
    assert again.reveal(calls[REVEAL]) == first[REVEAL]


def test_a_whole_sum_can_be_asked_for_again(tmp_path: Path):
    sites = six(tmp_path)
    first, second = (a_sum().gather(SIX, sites.ask) for _ in range(2))
    assert torch.equal(first["G"], second["G"])


@pytest.mark.parametrize("other", [{"round": 2}, {"run": "another"}, {"state": "1" * 64}])
def test_another_sum_has_other_keys_and_masks(tmp_path: Path, other: dict[str, Any]):
    """Also where the server says that all else is as before."""
    sites = six(tmp_path)
    a_sum().gather(SIX, sites.ask)
    a_sum(**other).gather(SIX, sites.ask)
    (key, again), (hidden, once_more) = (
        [reply for phase, reply in sites.sent if phase == wanted and reply.site == "ant"]
        for wanted in (KEYS, MASKED)
    )
    assert {json.loads(key.card)[k] for k in ("mask_key", "cipher_key")}.isdisjoint(
        {json.loads(again.card)[k] for k in ("mask_key", "cipher_key")}
    )
    assert (hidden.sums["G"] != once_more.sums["G"]).all()


def public_part(one: Member, call: SumCall) -> tuple[str, ...]:
    """Whatever of a site's secrets its first two answers show: keys, and the print of its seed."""
    card = json.loads(one.keys(call).card)
    return card["mask_key"], card["cipher_key"], one.shares(call).seed_print


def test_keys_and_seed_are_of_the_site_s_secret_and_of_the_job(asked: Asked, tmp_path: Path):
    """Else whoever knows the job knows the masks, and two jobs have the same."""
    call, ant = asked[0].calls[SHARES]["ant"], member("ant", tmp_path)

    def of(one: Member) -> tuple[str, ...]:
        return public_part(one, replace(call, cards={**call.cards, "ant": one.keys(call).card}))

    stranger = replace(ant, secret="a guess", memory=Memory(tmp_path / "stranger"))
    assert of(ant) == public_part(ant, call)
    assert not {*of(ant)} & {*of(stranger)}
    other = json.loads(replace(ant, job="0" * 64).keys(call).card)
    assert {other["mask_key"], other["cipher_key"]}.isdisjoint(of(ant))


def test_the_seed_is_of_the_secret_also_under_one_key(
    asked: Asked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(Member, "_private", lambda self, what, call: derived(b"one key", what))
    call, ant = asked[0].calls[SHARES]["ant"], member("ant", tmp_path)
    call = replace(call, cards={**call.cards, "ant": ant.keys(call).card})
    stranger = replace(ant, secret="a guess")
    assert ant.keys(call) == stranger.keys(call)
    assert ant.shares(call).seed_print != stranger.shares(call).seed_print


def test_a_sum_among_others_has_another_seed_and_other_masks_between_two_sites(asked: Asked, tmp_path: Path):
    """Also at a site that has lost its memory, and so takes part in both."""
    call = asked[0].calls[SHARES]["ant"]
    five, ant, forgetful = without(call, "fox"), member("ant", tmp_path), member("ant", tmp_path / "elsewhere")
    assert ant.shares(call).seed_print != forgetful.shares(five).seed_print
    private, card = ant._private("mask", call), json.loads(call.cards["bee"])["mask_key"]
    assert pair_seed(private, card, call, "ant", "bee") != pair_seed(private, card, five, "ant", "bee")


def test_what_is_signed_says_between_whom_masks_are_and_whom_the_sum_is_over():
    call = SumCall(run="r", round=1, state="", sharers=SIX, marks=marks(*SIX))
    fewer = replace(call, sharers=SIX[:5])
    assert call.mask_text != fewer.mask_text
    assert len({call.sum_text, fewer.sum_text, replace(call, marks=marks(*SIX[:5])).sum_text}) == 3
    assert replace(call, cards={"ant": "a card"}).sum_text != call.sum_text


# --- what a server may try


def changed_card(call: SumCall, name: str, **changes: Any) -> SumCall:
    card = {**json.loads(call.cards[name]), **changes}
    return replace(call, cards={**call.cards, name: json.dumps(card, sort_keys=True)})


def without(call: SumCall, *sites: str) -> SumCall:
    return replace(call, cards={name: card for name, card in call.cards.items() if name not in sites})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda call: without(call, *SIX[2:]), r"ant: a sum over 2 sites\n  expected: three or more"),
        (lambda call: without(call, "ant"), "ant: keys in this site's name that are not its own"),
        (lambda call: changed_card(call, "ant", mask_key="00" * 32), "in this site's name that are not its own"),
        (lambda call: changed_card(call, "bee", round=0), "bee: keys of another round"),
        (lambda call: changed_card(call, "bee", run="last"), "bee: keys of another run"),
        (lambda call: changed_card(call, "bee", state="2" * 64), "bee: keys of another state"),
        (lambda call: changed_card(call, "bee", job="2" * 64), "bee: keys of another job"),
        (lambda call: changed_card(call, "bee", site="cat"), "bee: keys of another site"),
        (lambda call: changed_card(call, "bee", mask_key="zz"), "bee: bytes that are none"),
        (lambda call: changed_card(call, "bee", slots=[3, 1]), "bee: anchor slots out of range or order"),
        (lambda call: changed_card(call, "bee", note="x"), "bee: keys that are none"),
        (lambda call: replace(call, cards={**call.cards, "bee": "["}), "bee: keys that are none"),
        (
            lambda call: replace(call, cards={**call.cards, "bee": call.cards["bee"] + " "}),
            "bee: keys in a form of their own",
        ),
        (lambda call: changed_card(call, "bee", mask_key="00" * 32), "a public key that is none"),
    ],
)
def test_keys_that_are_not_of_this_sum_are_refused(
    calls: dict[str, SumCall], fresh: Member, change: Any, said: str
):
    with pytest.raises(FedgramError, match=said):
        fresh.mask(change(calls[MASKED]), value_of("ant"))


@pytest.mark.parametrize(
    ("sharers", "said"),
    [
        (SIX[:3], "masks between 3 of 6 sites"),
        (SIX[1:], "masks between 5 of 6 sites"),
        ((*SIX, "gnu"), "masks between 7 of 6"),
    ],
)
def test_masks_between_too_few_or_others_are_refused(
    calls: dict[str, SumCall], fresh: Member, sharers: tuple[str, ...], said: str
):
    with pytest.raises(MaskRefused, match=said):
        fresh.mask(replace(calls[MASKED], sharers=sharers), value_of("ant"))


def test_under_the_masks_of_a_sum_there_is_one_value_between_one_set_of_sites(
    calls: dict[str, SumCall], ant: Member
):
    call = calls[MASKED]
    with pytest.raises(MaskRefused, match="another value was masked in this sum already"):
        ant.mask(call, value_of("bee"))
    with pytest.raises(MaskRefused, match="another value was masked in this sum already"):
        ant.mask(replace(call, sharers=SIX[:5]), value_of("ant"))


def test_on_one_occasion_there_is_one_sum_else_a_server_would_have_the_key_of_one_and_the_seed_of_the_other(
    tmp_path: Path,
):
    """The dog is said to be gone from the first, where its key is revealed, and would survive in the second."""
    members = [member(name, tmp_path) for name in SIX]
    first, second = a_sum(), a_sum()
    first.gather(("ant", "bee", "cat", "dog"), Sites(members, gone={"dog": MASKED}).ask)
    assert public_key(first._secret("dog", "keys")).hex() == json.loads(first._call.cards["dog"])["mask_key"]
    again = Sites(members)
    with pytest.raises(RoundFailed, match="2 sites gave shares") as failed:
        second.gather(("dog", "elk", "fox"), again.ask)
    assert "dog/sums.jsonl: a second sum of this round, between other sites" in str(failed.value)
    assert second.fell_apart
    assert not [reply for phase, reply in again.sent if (phase, reply.site) == (SHARES, "dog")]
    assert_sum(a_sum(round=2).gather(SIX, Sites(members).ask), SIX, 2)


@pytest.mark.parametrize("phase", [SHARES, MASKED, CONFIRM, REVEAL])
def test_no_phase_of_a_second_sum_on_one_occasion_is_answered(
    calls: dict[str, SumCall], fresh: Member, phase: str
):
    """Also by a site that was asked for nothing but masked values."""
    fresh.mask(calls[MASKED], value_of("ant"))
    five = replace(without(calls[phase], "fox"), sharers=SIX[:5])
    with pytest.raises(MaskRefused, match="a second sum of this round, between other sites"):
        Sites([fresh]).answer(phase, "ant", five)


def marks(*sites: str) -> dict[str, str]:
    return dict.fromkeys(sites, "")


@pytest.mark.parametrize(
    ("survivors", "said"),
    [
        (SIX[:3], "a sum over 3 of 6 sites"),
        ((*SIX, "gnu"), "a sum over 7 of 6 sites"),
        (SIX[:5], "seed 0: a sum over other sites was confirmed before"),
    ],
)
def test_a_site_confirms_one_sum_over_enough_sites(
    calls: dict[str, SumCall], ant: Member, survivors: tuple[str, ...], said: str
):
    with pytest.raises(MaskRefused, match=said):
        ant.confirm(replace(calls[CONFIRM], marks=marks(*survivors)))


@pytest.mark.parametrize("other", [{"run": "another"}, {"run": "another", "round": 2}, {"state": "1" * 64}])
def test_with_one_seed_no_site_can_be_left_out_of_another_sum(tmp_path: Path, other: dict[str, Any]):
    """Else two sums would differ by the value of the site that is missing in one, or by as good as that."""
    sites = six(tmp_path)
    a_sum().gather(SIX, sites.ask)
    with pytest.raises(RoundFailed, match="0 sites confirmed") as failed:
        a_sum(**other).gather(SIX[:5], sites.ask)
    assert "seed 0: a sum over other sites was confirmed before" in str(failed.value)
    assert "any other run needs another `seed`" in str(failed.value)


def test_a_run_does_not_go_back(tmp_path: Path):
    """A site would train once more, and begin a later round with what an earlier one has begun with."""
    sites = six(tmp_path)
    for number in (1, 2):
        assert_sum(a_sum(round=number).gather(SIX, sites.ask), SIX, number)
    with pytest.raises(RoundFailed, match=r"0 sites gave shares(.|\n)*ant/sums.jsonl: round 1 after round 2"):
        a_sum().gather(SIX, sites.ask)
    assert_sum(a_sum(round=2).gather(SIX, sites.ask), SIX, 2)


def test_another_setting_of_the_job_makes_no_other_round(tmp_path: Path):
    a_sum().gather(SIX, six(tmp_path).ask)
    job = replace(JOB, backbone=replace(JOB.backbone, layers=2))
    sites = Sites([replace(member(name, tmp_path), job=job.fingerprint()) for name in SIX[:5]])
    with pytest.raises(RoundFailed, match="0 sites confirmed"):
        MaskedSum("another", 1, job, SHAPES).gather(SIX[:5], sites.ask)


def test_in_one_run_sites_may_leave_and_come_back_and_a_round_may_be_done_again(tmp_path: Path):
    sites, five = six(tmp_path), SIX[:5]
    for number, gone in ((1, {}), (2, {"fox": MASKED}), (2, {"fox": MASKED}), (3, {})):
        sites.gone = gone
        assert_sum(a_sum(round=number).gather(SIX, sites.ask), five if gone else SIX, number)


def test_in_another_run_the_same_sites_are_summed_with_the_same_seed_and_others_with_another(tmp_path: Path):
    a_sum().gather(SIX, six(tmp_path).ask)
    assert_sum(a_sum(run="another").gather(SIX, six(tmp_path).ask), SIX)
    reseeded = Sites([replace(member(name, tmp_path), seed=1) for name in SIX[:5]])
    assert_sum(a_sum(run="a third").gather(SIX[:5], reseeded.ask), SIX[:5])


def test_of_two_jobs_that_confirm_at_once_one_is_refused(
    calls: dict[str, SumCall], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They are two processes on one file; each would have looked before the other has written."""
    member("ant", tmp_path).mask(calls[MASKED], value_of("ant"))
    both = Barrier(2, timeout=0.5)

    def append(path: Path, lines: bytes) -> None:
        with suppress(BrokenBarrierError):  # with a lock the other does not come
            both.wait()
        files.append(path, lines)

    monkeypatch.setattr(memory, "append", append)
    with ThreadPoolExecutor() as pool:
        lists = [replace(calls[CONFIRM], marks=marks(*names)) for names in (SIX, SIX[:5])]
        answers = [pool.submit(member("ant", tmp_path).confirm, call) for call in lists]
    refused = [answer.exception() for answer in answers if answer.exception() is not None]
    assert [type(error) for error in refused] == [MaskRefused]


def test_without_a_lock_a_site_takes_no_part(
    calls: dict[str, SumCall], fresh: Member, monkeypatch: pytest.MonkeyPatch
):
    def none(*_: object) -> None:
        raise OSError("no locks here")

    monkeypatch.setattr(files.fcntl, "flock", none)
    for phase in (SHARES, MASKED, CONFIRM, REVEAL):
        with pytest.raises(
            CheckpointError, match=r"sums.lock: no lock \(no locks here\)\n  remedy: keep the site's"
        ):
            Sites([fresh]).answer(phase, "ant", calls[phase])


def test_shares_are_given_for_what_was_confirmed_alone(calls: dict[str, SumCall], ant: Member, fresh: Member):
    call = calls[REVEAL]
    with pytest.raises(MaskRefused, match="a sum that this site has not confirmed"):
        ant.reveal(replace(call, marks=marks(*SIX[:5])))
    with pytest.raises(MaskRefused, match=r"a sum that 3 sites confirm\n  expected: 4"):
        ant.reveal(replace(call, confirmed=marks(*SIX[:3])))
    with pytest.raises(MaskRefused, match="a sum in which this site has masked nothing"):
        fresh.confirm(replace(call, confirmed={}))


def test_a_share_that_comes_back_to_who_has_sent_it_is_none(asked: Asked, calls: dict[str, SumCall], ant: Member):
    """A server could else learn both of the ant's secrets, one of them as the bee's."""
    sent = next(reply for phase, reply in asked[0].sent if (phase, reply.site) == (SHARES, "ant"))
    call = calls[REVEAL]
    found = ant.reveal(replace(call, shares={**call.shares, "bee": sent.shares["bee"]}))
    assert sorted(found.seeds) == [name for name in SIX if name != "bee"]


def test_of_no_site_both_the_seed_and_the_key_are_given(tmp_path: Path):
    sites = six(tmp_path, gone={"fox": MASKED})
    a_sum().gather(SIX, sites.ask)
    for _, reply in (entry for entry in sites.sent if entry[0] == REVEAL):
        assert (sorted(reply.seeds), sorted(reply.keys)) == ([*SIX[:5]], ["fox"])


def test_half_a_line_of_the_memory_is_of_something_that_was_not_done(
    calls: dict[str, SumCall], ant: Member, tmp_path: Path
):
    path = tmp_path / "ant" / "sums.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(MaskRefused, match="not confirmed"):
        ant.reveal(calls[REVEAL])
    assert ant.confirm(calls[CONFIRM]).site == "ant"
    assert ant.reveal(calls[REVEAL]).site == "ant"


def test_a_pair_of_anchors_that_two_sites_are_left_for_ends_the_sum(tmp_path: Path):
    """Slot 3 is covered by ant, bee and cat; without cat it would tell each of two the other's."""
    made = [member(name, tmp_path, slots=(0, 1, 2, 3) if name < "d" else (0, 1, 2)) for name in SIX]
    sites = Sites(made)
    a_sum().gather(SIX, sites.ask)
    left = marks(*(name for name in SIX if name != "cat"))
    with pytest.raises(MaskRefused, match="a pair of anchors that fewer than three sites are left for"):
        made[0].confirm(replace(sites.calls[CONFIRM]["ant"], marks=left))
    with pytest.raises(RoundFailed, match="round 2: a pair of anchors that fewer than three sites are left for"):
        a_sum(round=2).gather(SIX, Sites(made, gone={"cat": MASKED}).ask)
    found = a_sum(round=3).gather(SIX, Sites(made, gone={"dog": MASKED}).ask)
    assert_sum(found, [name for name in SIX if name != "dog"], 3)


# --- what a site may try


def lie_of(site: str, at: str, change: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    return lambda phase, reply: change(reply) if (phase, reply.site) == (at, site) else reply


def flipped(digits: str) -> str:
    return f"{15 - int(digits[0], 16):x}{digits[1:]}"


@pytest.mark.parametrize(
    ("at", "change", "said"),
    [
        (KEYS, lambda r: replace(r, card=r.card.replace('"round": 1', '"round": 0')), "keys of another round"),
        (SHARES, lambda r: replace(r, context="0" * 64), "masks of another round"),
        (SHARES, lambda r: replace(r, shares={}), "shares for others than take part"),
        (SHARES, lambda r: replace(r, prints=dict.fromkeys(r.prints, "")), "shares for others than take part"),
        (MASKED, lambda r: replace(r, round=0), "masks of another round"),
        (MASKED, lambda r: replace(r, sums={"G": r.sums["G"]}), "masked values of other names or shapes"),
        (MASKED, lambda r: replace(r, sums={**r.sums, "weight": torch.zeros(())}), "of another type"),
        (CONFIRM, lambda r: replace(r, context="0" * 64), "masks of another round"),
        (REVEAL, lambda r: replace(r, round=2), "masks of another round"),
        (REVEAL, lambda r: replace(r, keys={"ant": "00" * 32}), "shares that nobody asked for"),
        (REVEAL, lambda r: replace(r, seeds={**r.seeds, "cat": flipped(r.seeds["cat"])}), "cat's that does not"),
        (REVEAL, lambda r: replace(r, seeds={**r.seeds, "cat": "xx"}), "bytes that are none"),
    ],
)
def test_whatever_a_site_sends_it_is_named_and_the_sum_goes_on(tmp_path: Path, at: str, change: Any, said: str):
    sites = six(tmp_path, lie=lie_of("bee", at, change))
    current = a_sum()
    found = current.gather(SIX, sites.ask)
    assert list(current.rejected) == ["bee"]
    assert said in current.rejected["bee"]
    assert_sum(found, [n for n in SIX if n != "bee"] if at in (KEYS, SHARES, MASKED) else SIX)


def test_a_second_masked_value_is_refused(tmp_path: Path):
    current, sites = a_sum(), six(tmp_path)
    current.gather(SIX, sites.ask)
    reply = next(reply for phase, reply in sites.sent if phase == MASKED)
    with pytest.raises(UpdateRejected, match="masked values that nobody asked for"):
        current.add_values(reply)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: replace(r, shares={n: flipped(s) for n, s in r.shares.items()}), "0 sites could read what bee"),
        (lambda r: replace(r, seed_print="0" * 64), "shares of bee that give another seed than its own"),
    ],
)
def test_a_site_whose_own_shares_are_wrong_ends_the_sum_and_is_named(tmp_path: Path, change: Any, said: str):
    sites = six(tmp_path, lie=lie_of("bee", SHARES, change))
    with pytest.raises(RoundFailed, match=said):
        a_sum().gather(SIX, sites.ask)
