"""Which frames of a site reach FLARE, and what is remembered of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fedgram.flare.shield import frames
from fedgram.flare.shield.frames import Frames
from nvflare.apis.fl_constant import CellMessageAuthHeaderKey, ServerCommandNames
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.defs import CellChannel, CellChannelTopic, MessageHeaderKey
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.byte_receiver import RxTask
from nvflare.fuel.f3.streaming.byte_streamer import ByteStreamer
from nvflare.fuel.f3.streaming.stream_const import (
    STREAM_ACK_TOPIC,
    STREAM_CHANNEL,
    STREAM_DATA_TOPIC,
    STREAM_ERROR_TOPIC,
    StreamDataType,
    StreamHeaderKey,
)
from nvflare.fuel.f3.streaming.stream_types import BlobSizeError

LIMIT = 2**20
GET_TASK = (CellChannel.SERVER_COMMAND, ServerCommandNames.GET_TASK)
FETCHED = (CellChannel.RETURN_ONLY, "download")


def message(channel: str, topic: str, payload: bytes | None = b"x", site: str = "red", **headers: Any) -> Message:
    common = {
        MessageHeaderKey.CHANNEL: channel,
        MessageHeaderKey.TOPIC: topic,
        MessageHeaderKey.ORIGIN: f"{site}.job",
        CellMessageAuthHeaderKey.CLIENT_NAME: site,
    }
    return Message(common | headers, payload)


def frame(
    route: tuple[str, str], size: int = 1, stream: int = 1, sequence: int = 0, last: bool = True, **headers: Any
) -> Message:
    inner = {
        StreamHeaderKey.CHANNEL: route[0],
        StreamHeaderKey.TOPIC: route[1],
        StreamHeaderKey.STREAM_ID: stream,
        StreamHeaderKey.SEQUENCE: sequence,
        StreamHeaderKey.DATA_TYPE: StreamDataType.FINAL if last else StreamDataType.CHUNK,
        StreamHeaderKey.STREAM_REQ_ID: "asked",
    }
    return message(STREAM_CHANNEL, STREAM_DATA_TOPIC, bytes(size), **inner | headers)


class Screen:
    """A Frames that remembers whom it refused, and why."""

    def __init__(self) -> None:
        self.refused: list[tuple[str, str]] = []
        self.rejected: list[Message] = []
        receiver = SimpleNamespace(reject=lambda message, error: self.rejected.append(message))
        cell = SimpleNamespace(requests_dict={"asked": object()}, byte_receiver=receiver)
        self.frames = Frames(cell, lambda site, _, reason: self.refused.append((site, reason)))

    def lets_in(self, sent: Message) -> bool:
        return self.frames.screen(sent) is None


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setattr(RxTask, "rx_task_map", {})
    monkeypatch.setattr(ByteStreamer, "tx_task_map", {})
    monkeypatch.setattr(frames.callback_thread_pool, "submit", lambda call, *args: call(*args))
    return Screen()


def test_the_server_itself_may_say_anything(screen: Screen):
    assert screen.lets_in(message(CellChannel.SERVER_COMMAND, "abort", site="server"))
    with_no_name = message(CellChannel.SERVER_COMMAND, "abort")
    with_no_name.set_header(MessageHeaderKey.ORIGIN, "server")
    with_no_name.remove_header(CellMessageAuthHeaderKey.CLIENT_NAME)
    assert screen.lets_in(with_no_name)


def test_a_site_that_calls_itself_the_server_stays_a_site(screen: Screen):
    """The parent has verified the name, and not always the origin."""
    sent = message(CellChannel.SERVER_COMMAND, "abort", **{MessageHeaderKey.ORIGIN: "server"})
    assert not screen.lets_in(sent)


@pytest.mark.parametrize("route", frames._REQUESTS)
def test_what_a_site_has_to_say_passes(screen: Screen, route: tuple[str, str]):
    assert screen.lets_in(frame(route, 1000))


@pytest.mark.parametrize(
    "sent",
    [
        message(CellChannel.SERVER_COMMAND, "abort"),
        message(CellChannel.CELLNET, CellChannelTopic.Bye),
        message(CellChannel.CELLNET, "bulk"),
        message("_net_manager", "speed"),
        message("credential_manager", "key_exchange", bytes(10**6)),
        frame((CellChannel.SERVER_COMMAND, "abort")),
        frame((CellChannel.AUX_COMMUNICATION, "RM.RELIABLE_REQUEST")),
        frame(GET_TASK, 10**6),
        frame(GET_TASK, last=False),
        frame(GET_TASK, sequence=1),
        frame(GET_TASK, **{StreamHeaderKey.SIZE: 10**12}),
        frame(GET_TASK, **{StreamHeaderKey.SIZE: "large"}),
        frame(FETCHED),
    ],
)
def test_anything_else_does_not(screen: Screen, sent: Message):
    with screen.frames.task(LIMIT):
        assert not screen.lets_in(sent)
    assert screen.refused == []


def test_a_site_may_give_up_a_transfer(screen: Screen):
    given_up = {StreamHeaderKey.STREAM_ID: 1, StreamHeaderKey.ERROR_MSG: "cancelled"}
    assert screen.lets_in(message(STREAM_CHANNEL, STREAM_DATA_TOPIC, None, **given_up))
    assert not screen.lets_in(message(STREAM_CHANNEL, STREAM_DATA_TOPIC, b"and more", **given_up))
    nothing = given_up | {StreamHeaderKey.ERROR_MSG: ""}  # FLARE takes this for data
    assert not screen.lets_in(message(STREAM_CHANNEL, STREAM_DATA_TOPIC, None, **nothing))


def test_what_flare_would_do_on_request_is_not_asked_for(screen: Screen):
    headers = {
        MessageHeaderKey.CONN_URL: "tcp://elsewhere:1",
        StreamHeaderKey.RELIABLE: True,
        StreamHeaderKey.RETRY_TIMEOUT: 10**9,
        StreamHeaderKey.RETRY_WAIT: 10**9,
    }
    sent = frame(GET_TASK, **headers)
    assert screen.lets_in(sent)
    assert not any(sent.get_header(name) for name in headers)


def test_a_receipt_is_taken_from_the_receiver_only(screen: Screen):
    ByteStreamer.tx_task_map[5] = SimpleNamespace(target="blue.job")
    receipt = {StreamHeaderKey.STREAM_ID: 5}
    assert not screen.lets_in(message(STREAM_CHANNEL, STREAM_ACK_TOPIC, None, **receipt))
    assert screen.lets_in(message(STREAM_CHANNEL, STREAM_ACK_TOPIC, None, site="blue", **receipt))


@pytest.mark.parametrize("topic", [STREAM_ACK_TOPIC, STREAM_ERROR_TOPIC])
def test_that_a_message_was_too_large_is_an_error_like_others(screen: Screen, topic: str):
    sent = message(STREAM_CHANNEL, topic, None, **{StreamHeaderKey.ERROR_TYPE: BlobSizeError.__name__})
    assert screen.lets_in(sent)
    assert sent.get_header(StreamHeaderKey.ERROR_TYPE) == "StreamError"


# --- replies


def test_a_reply_may_come_in_parts_and_its_size_is_the_sum(screen: Screen):
    with screen.frames.task(LIMIT):
        for sequence in range(4):
            assert screen.lets_in(frame(frames.SUBMIT, 2**20, sequence=sequence, last=False))
        assert screen.refused == []
        assert not screen.lets_in(frame(frames.SUBMIT, 1, sequence=4))
        assert not screen.lets_in(frame(frames.SUBMIT, 1, sequence=5))
    assert [site for site, _ in screen.refused] == ["red"]
    assert "4194305 bytes or more" in screen.refused[0][1]


def test_a_reply_is_refused_by_what_it_announces(screen: Screen):
    with screen.frames.task(LIMIT):
        assert not screen.lets_in(frame(frames.SUBMIT, 1, **{StreamHeaderKey.SIZE: 5 * 10**10}))
        assert screen.lets_in(frame(frames.SUBMIT, 1, stream=2))
    assert "50000000000 bytes" in screen.refused[0][1]


def test_without_a_task_no_reply(screen: Screen):
    assert not screen.lets_in(frame(frames.SUBMIT))
    with screen.frames.task(LIMIT):
        assert screen.lets_in(frame(frames.SUBMIT, stream=2))
    assert not screen.lets_in(frame(frames.SUBMIT, stream=3))
    assert [reason for _, reason in screen.refused] == ["a reply when no task stands"] * 2


def test_a_site_holds_few_transfers_open(screen: Screen):
    task = SimpleNamespace(completed=False, failed=False, stop=lambda error: None)
    with screen.frames.task(LIMIT):
        for stream in range(frames._OPEN_STREAMS):
            RxTask.rx_task_map[("red.job", stream)] = task
            assert screen.lets_in(frame(frames.SUBMIT, stream=stream, last=False))
        assert not screen.lets_in(frame(frames.SUBMIT, stream=100, last=False))
        assert screen.lets_in(frame(frames.SUBMIT, stream=100, last=False, **_sent_by("blue")))
        task.completed = True
        assert screen.lets_in(frame(frames.SUBMIT, stream=101))


def _sent_by(site: str) -> dict[str, str]:
    return {CellMessageAuthHeaderKey.CLIENT_NAME: site, MessageHeaderKey.ORIGIN: f"{site}.job"}


def test_replies_to_one_task_are_counted(screen: Screen):
    with screen.frames.task(LIMIT):
        let_in = [screen.lets_in(frame(frames.SUBMIT, stream=number)) for number in range(120)]
        assert sum(let_in) == frames._SUBMISSIONS
        assert screen.lets_in(frame(frames.SUBMIT, stream=1, **_sent_by("blue")))
    with screen.frames.task(LIMIT):
        assert screen.lets_in(frame(frames.SUBMIT, stream=121))


# --- tensors


def test_tensors_are_counted_until_they_are_too_many(screen: Screen):
    stop = Signal()
    with screen.frames.task(LIMIT):
        screen.frames.of("red").reading = stop
        assert screen.lets_in(frame(FETCHED, LIMIT - 2**17))
        assert not stop.triggered
        assert not screen.lets_in(frame(FETCHED, 2**18, stream=2))
    assert stop.triggered
    assert "the contract allows 1048576" in str(stop.value)


def test_tensors_are_refused_by_what_they_announce(screen: Screen):
    stop = Signal()
    with screen.frames.task(LIMIT):
        screen.frames.of("red").reading = stop
        assert not screen.lets_in(frame(FETCHED, 1, last=False, **{StreamHeaderKey.SIZE: 2 * 10**9}))
    assert "tensors of 2000000000 bytes" in str(stop.value)
    assert len(screen.rejected) == 1  # the sender hears of it, and does not send it again


def test_a_late_answer_does_not_count(screen: Screen):
    """FLARE sends again for a minute what was not acknowledged: tensors of the round before, say."""
    stop = Signal()
    with screen.frames.task(LIMIT):
        screen.frames.of("red").reading = stop
        assert not screen.lets_in(frame(FETCHED, 2 * LIMIT, **{StreamHeaderKey.STREAM_REQ_ID: "before"}))
        assert not stop.triggered
        assert screen.lets_in(frame(FETCHED, LIMIT - 1, stream=2))


def test_nothing_at_a_time_is_something(screen: Screen):
    """An endless sequence of empty answers ends."""
    stop = Signal()
    with screen.frames.task(LIMIT):
        screen.frames.of("red").reading = stop
        let_in = [screen.lets_in(frame(FETCHED, 0, stream=number)) for number in range(100)]
        assert sum(let_in) == LIMIT // frames._LEAST_BYTES
    assert stop.triggered


def test_with_the_task_all_transfers_end(screen: Screen):
    stopped = []
    RxTask.rx_task_map[("red.job", 1)] = SimpleNamespace(completed=False, failed=False, stop=stopped.append)
    stop = Signal()
    with screen.frames.task(LIMIT):
        screen.frames.of("red").reading = stop
        assert screen.lets_in(frame(frames.SUBMIT, last=False))
        assert not stop.triggered
    assert len(stopped) == 1
    assert stop.value == "it was not complete when the task ended"


# --- the log


def test_the_log_says_it_once_and_not_without_end(screen: Screen, caplog: pytest.LogCaptureFixture):
    with screen.frames.task(LIMIT):
        for _ in range(3):
            screen.lets_in(message("_net_manager", "speed"))
        assert len(caplog.records) == 1
        assert "red: dropped what it sent: a message for _net_manager/speed" in caplog.text
        for number in range(50):
            screen.lets_in(message("_net_manager", f"made up {number}"))
    assert len(caplog.records) == frames._WARNINGS


def test_a_line_of_the_log_stays_one_line():
    text = frames.printable("a\nb\x1b[31m" + "ü" * 1000)
    assert text.startswith("a b\\x1b[31m\\xfc")
    assert len(text) == 240
    assert frames.printable(ValueError()) == "ValueError"
