"""What leaves a site: the README, the code and the bytes say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from fedgram.flare import outbound, wire
from fedgram.records import SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.training import rounds
from fedgram.training.codec import names_of
from fedgram.training.masked.contracts import KINDS
from fedgram.training.server import agree
from masked_toy import round_one
from nvflare.app_common.abstract.fl_model import FLModel
from toy import ROOT, Toy

REPLIES = (SiteIntroduction, SiteUpdate, SiteEvaluation, *KINDS.values())
FIELDS = [field for part in outbound.LEAVES for field in part.fields]


def listed(name: str) -> bool:
    return any(name == field or (field.endswith("/") and name.startswith(field)) for field in FIELDS)


def names(model: FLModel) -> set[str]:
    return {*(model.params or {}), *(model.meta or {})}


@pytest.fixture
def sharing(toy: Toy) -> Toy:
    """Red and green, which have the same classes, share their heads, and their concepts."""
    shared = {name: replace(toy.sites[name], share=("head", "concepts")) for name in ("red", "green")}
    return replace(toy, sites={**toy.sites, **shared})


@pytest.fixture
def messages(sharing: Toy, toy: Toy, tmp_path: Path) -> dict[str, FLModel]:
    """Each kind of message that the red site sends in a run, masked ones included."""
    sessions = sharing.sessions(tmp_path)
    introductions = [session.introduce() for session in sessions.values()]
    state, _ = agree(introductions, sharing.job)
    red = sessions["red"]
    return {
        "introduction": wire.encode_reply(introductions[0]),
        "update": wire.encode_reply(red.train(state.run, state.state)),
        "evaluation": wire.encode_reply(red.evaluate(state.run, state.state)),
        **{phase: wire.encode_reply(reply) for phase, (_, reply) in round_one(toy, tmp_path)[1].items()},
    }


def test_the_readme_lists_the_contract():
    text = (ROOT / "README.md").read_text()
    section = text.split("## What leaves a site\n")[1].split("\n## ")[0]
    head, *rows = (line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| "))
    assert head == ["what", "shape", "when", *outbound.MODES]
    assert rows == [[part.what, part.shape, part.when, *part.modes] for part in outbound.LEAVES]


def test_a_masked_sum_sends_nothing_by_itself_that_is_said_to_be_in_a_sum(messages: dict[str, FLModel]):
    summed = [part for part in outbound.LEAVES if part.modes[1].startswith(("in a sum", "refused"))]
    fields = tuple(field for part in summed for field in part.fields if "slots" not in field)  # which, not what
    for phase in messages.keys() - {"introduction", "update", "evaluation"}:
        assert [name for name in names(messages[phase]) if name.startswith(fields)] == [], phase


def test_every_field_that_is_sent_is_in_the_contract(messages: dict[str, FLModel]):
    for kind, model in messages.items():
        assert [name for name in sorted(names(model)) if not listed(name)] == [], kind


def test_every_field_of_the_contract_is_sent(messages: dict[str, FLModel]):
    sent = set().union(*map(names, messages.values())) | {wire.ERROR_HEADER}
    for field in FIELDS:
        assert any(name == field or (field.endswith("/") and name.startswith(field)) for name in sent), field


def test_the_contract_lists_the_fields_of_the_records():
    """All but the sender's name, which FLARE itself gives."""
    packed = {name for kind in REPLIES for part in names_of(kind) for name in part}
    assert packed - {"site"} == {*FIELDS, *outbound.EXTRA.fields} - {wire.ERROR_HEADER}


def test_what_nobody_shares_is_not_in_a_sites_contract():
    every = set(outbound.LEAVES)
    assert set(outbound.leaves(("geo",), ("concepts",))) == every - {outbound.SHARED}
    assert set(outbound.leaves(("geo",), ("head",))) == every - {outbound.CONCEPTS}
    assert set(outbound.leaves(("geo",), ())) == every - {outbound.SHARED, outbound.CONCEPTS}
    assert outbound.EXTRA in outbound.leaves(("geo", "fedproto"), ())


def test_no_field_is_listed_twice():
    assert len(set(FIELDS)) == len(FIELDS)


@pytest.mark.parametrize("magnitude", ["mean", "private"])
def test_the_announced_bytes_are_those_that_are_sent(sharing: Toy, tmp_path: Path, magnitude: str):
    job = sharing.with_job(adapter={"magnitude": magnitude})
    site = job.open("red")
    extent = outbound.Extent(
        slots=len(site.anchors.slots),
        heldout=len(site.heldout.slots) if site.heldout else 0,
        samples=len(site.data["train"]),
        job=job.job,
        shapes=site.spec.shapes,
        shared=rounds.introduce(site).shared_shapes,
    )
    sessions = job.sessions(tmp_path)
    state, _ = agree([session.introduce() for session in sessions.values()], job.job)
    update = wire.encode_reply(sessions["red"].train(state.run, state.state))
    sent = {name: tensor.numel() * tensor.element_size() for name, tensor in (update.params or {}).items()}
    amounts = outbound.amounts(extent)
    for part in (outbound.DELTA, outbound.MAGNITUDE, outbound.SHARED, outbound.GRAM):
        expected = sum(size for name, size in sent.items() if name.startswith(part.fields[0]))
        assert amounts[part].bytes == expected
    assert outbound.round_bytes(extent) == sum(sent.values())


def test_nothing_is_promised_before_the_job_is_known():
    amounts = outbound.amounts(outbound.Extent(slots=6, heldout=4, samples=10))
    assert amounts[outbound.DELTA] == amounts[outbound.MAGNITUDE]
    assert amounts[outbound.DELTA].text == "depends on the job and its backbone"
    assert amounts[outbound.GRAM] == outbound.Amount("(6, 6); at the end (10, 10)", 144)
    assert amounts[outbound.NUMBERS].text == "10 samples; the metrics of the job"
