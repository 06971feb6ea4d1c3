"""What a message of a site must look like before FLARE's own code sees it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import replace

import msgpack
import pytest
import torch
from fedgram.errors import UpdateRejected
from fedgram.flare import wire
from fedgram.flare.shield import vetting
from fedgram.training.groups import most_shared
from fedgram.training.server import agree
from hypothesis import given
from hypothesis import strategies as st
from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FedEventHeader, FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.widgets.streaming import create_analytic_dxo
from nvflare.fuel.utils import fobs
from nvflare.fuel.utils.fobs import dots, lobs
from safetensors.torch import save
from toy import Toy

OWN = "red.some-job"


def section(marker: int, dot: int, body: bytes) -> bytes:
    head = uuid.uuid4().bytes if marker != lobs.MARKER_MAIN else b""
    return lobs.HEADER_STRUCT.pack(marker, dot, len(head) + len(body)) + head + body


def reference(fqcn: str = OWN, dot: int = dots.TENSOR_DOWNLOAD) -> bytes:
    return section(lobs.MARKER_DATUM_TEXT, dot, json.dumps({"fqcn": fqcn, "ref_id": "x"}).encode())


MAIN = section(lobs.MARKER_MAIN, 0, b"\xc0")


def test_flare_writes_what_we_read():
    """The sections that FLARE's own serialiser makes, whole or in pieces, with a long value as its own section."""
    body = fobs.dumps({"names": ["a", "b"], "long": "x" * 2000}, max_value_size=1024)
    assert len(list(vetting._sections(body))) == 2
    vetting.check_sections(body, None)
    vetting.check_sections([body[:5], body[5:1500], body[1500:]], None)
    vetting.check_sections(MAIN + reference(), OWN)


@pytest.mark.parametrize(
    ("body", "source", "reason"),
    [
        (MAIN + section(lobs.MARKER_DATUM_FILE, 0, b"to fill a disk"), OWN, "a file"),
        (MAIN + reference(), None, "reference 1"),
        (MAIN + reference() + reference(), OWN, "reference 2"),
        (MAIN + reference("blue.some-job"), OWN, "another process"),
        (MAIN + reference(dot=dots.NUMPY_DOWNLOAD), OWN, "kind 3"),
        (MAIN[:-1], OWN, "breaks off"),
        (MAIN + b"\x65", OWN, "breaks off"),
    ],
    ids=["file", "no source", "second reference", "another process", "numpy", "cut", "cut in the second section"],
)
def test_a_message_that_is_more_than_data_is_refused(body: bytes, source: str | None, reason: str):
    with pytest.raises(UpdateRejected, match=reason):
        vetting.check_sections(body, source)


@given(st.binary(max_size=60), st.integers(0, 60))
def test_bytes_of_any_kind_are_walked_over_in_finite_time(body: bytes, cut: int):
    try:
        vetting.check_sections([body[:cut], body[cut:]], OWN)
    except (UpdateRejected, ValueError, KeyError, TypeError, IndexError):
        return


def test_every_reply_of_the_contract_fits_and_not_much_more(toy: Toy, tmp_path):
    shared = {name: replace(toy.sites[name], share=("head",)) for name in ("red", "green")}
    toy = replace(toy, sites={**toy.sites, **shared})
    sessions = toy.sessions(tmp_path)
    state, _ = agree([session.introduce() for session in sessions.values()], toy.job)
    red = sessions["red"]
    update, evaluation = red.train(state.run, state.state), red.evaluate(state.run, state.state)
    concepts = {chr(0x4E00 + i) * 200: torch.ones(12) for i in range(1000)}
    numbers = most_shared(state.groups, state.state.shared)
    assert numbers == sum(u.numel() for u in update.shared.values()) > 0
    update_limit = vetting.reply_limit(toy.job, state.spec, shared=numbers)
    messages = {
        vetting.reply_limit(toy.job, concepts=1000): [wire.encode_reply(replace(evaluation, prototypes=concepts))],
        vetting.reply_limit(toy.job): [
            wire.encode_reply(red.introduce()),
            wire.encode_reply(evaluation),
            wire.encode_reply(red.settle(state.run, state.state)),
        ],
        update_limit: [wire.encode_reply(update)],
    }
    for limit, models in messages.items():
        for model in models:
            sent = sum(len(save({name: tensor})) for name, tensor in model.params.items())
            assert sent < limit - 2 * 2**20
    tensors = sum(t.numel() * t.element_size() for t in wire.encode_reply(update).params.values())
    slack = update_limit - vetting._SLACK
    assert 2 * tensors <= slack <= 3 * tensors  # the toy has few anchors that a site does not cover


def submission(site: str = "red", **headers: object) -> Shareable:
    reply = FLModelUtils.to_shareable(FLModel(params={"gram": torch.zeros(2)}, meta={}))
    peer = FLContext()
    peer.set_public_props({ReservedKey.IDENTITY_NAME: site})
    reply.set_peer_context(peer)
    reply.set_header(FLContextKey.TASK_NAME, "train")
    reply.add_cookie(FLContextKey.TASK_ID, "7")
    for name, value in headers.items():
        reply.set_header(name, value)
    return reply


def test_an_honest_reply_passes_as_it_is():
    reply = submission()
    before = dict(reply[ReservedHeaderKey.HEADERS])
    assert vetting.check_submission("red", reply) is reply
    assert reply[ReservedHeaderKey.HEADERS] == before


def _other(reply: Shareable) -> None:
    reply.set_peer_context(submission("blue").get_peer_context())


def _no_context(reply: Shareable) -> None:
    reply.set_peer_context({"name": "red"})


def _no_task(reply: Shareable) -> None:
    reply.set_header(FLContextKey.TASK_NAME, ["train"])


def _odd_cookies(reply: Shareable) -> None:
    reply.set_cookie_jar([1, 2])


def _odd_headers(reply: Shareable) -> None:
    reply[ReservedHeaderKey.HEADERS] = "none"


def _no_model(reply: Shareable) -> None:
    reply.set_header(ReservedHeaderKey.CONTENT_TYPE, "text")


@pytest.mark.parametrize("spoil", [_other, _no_context, _no_task, _odd_cookies, _odd_headers, _no_model])
def test_what_flare_would_stumble_over_is_refused(spoil: Callable[[Shareable], None]):
    reply = submission()
    spoil(reply)
    with pytest.raises(Exception):  # noqa: B017, PT011 - of any kind: the guard takes them all
        vetting.check_submission("red", reply)
    with pytest.raises(UpdateRejected):
        vetting.check_submission("red", {"not": "a Shareable"})


@pytest.mark.parametrize("code", [ReturnCode.TASK_UNKNOWN, ReturnCode.RUN_MISMATCH, ReturnCode.UNSAFE_JOB])
def test_a_code_that_ends_jobs_becomes_an_error_of_that_site(code: str):
    reply = vetting.check_submission("red", submission(**{ReservedHeaderKey.RC: code}))
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert vetting.reason_of("red", reply) == f"red: answered with {code}; its own log says why"


@pytest.mark.parametrize("text", ["the name of patient 7", "x" * 100, ["DataError"], "a\nb"])
def test_of_an_error_only_a_kind_is_heard(text: object):
    headers = {wire.ERROR_HEADER: text, vetting._REFUSED: "made up", ReservedHeaderKey.RC: text}
    reply = vetting.check_submission("red", submission(**headers))
    assert vetting.reason_of("red", reply) == "red: answered with EXECUTION_EXCEPTION; its own log says why"


def test_a_refusal_names_site_task_and_reason():
    reply = vetting.check_submission("red", vetting.refusal("red", "job", ("train", "7"), "red: too large"))
    assert reply.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert reply.get_cookie(FLContextKey.TASK_ID) == "7"
    assert reply.get_peer_context().get_job_id() == "job"
    own = vetting.refusal("red", "job", ("train", "7"), "red: too large")
    assert vetting.reason_of("red", own) == "red: too large"
    assert "too large" not in vetting.reason_of("red", make_reply(ReturnCode.ERROR))


def event(tag: object = "cka", value: float = 0.5, site: str = "red", kind: object = None) -> Shareable:
    sent = create_analytic_dxo(tag, value, AnalyticsDataType.SCALAR, global_step=1).to_shareable()
    sent.set_header(FedEventHeader.EVENT_TYPE, kind or vetting.METRIC_EVENT)
    sent.set_peer_props({ReservedKey.IDENTITY_NAME: site})
    return fobs.loads(fobs.dumps(sent))


def test_a_metric_of_the_job_passes():
    vetting.check_event("red", event(), {"cka"})
    vetting.check_event("red", event(value=float("nan")), {"cka"})


@pytest.mark.parametrize(
    "sent",
    [
        event(kind=EventType.FATAL_SYSTEM_ERROR),
        event(kind=EventType.END_RUN),
        event(kind=["fed.analytix_log_stats"]),
        event(tag="loss of patient 7"),
        event(site="blue"),
        Shareable(),
    ],
)
def test_any_other_event_does_not(sent: Shareable):
    with pytest.raises(UpdateRejected):
        vetting.check_event("red", sent, {"cka"})


def test_a_text_or_a_picture_is_no_metric():
    text = create_analytic_dxo("cka", "patient 7", AnalyticsDataType.TEXT).to_shareable()
    text.set_header(FedEventHeader.EVENT_TYPE, vetting.METRIC_EVENT)
    text.set_peer_props({ReservedKey.IDENTITY_NAME: "red"})
    with pytest.raises(UpdateRejected, match="a metric"):
        vetting.check_event("red", text, {"cka"})


def test_deep_nesting_is_an_error_and_no_crash():
    with pytest.raises(msgpack.StackError):
        msgpack.unpackb(b"\x91" * 1_000_000 + b"\xc0")
