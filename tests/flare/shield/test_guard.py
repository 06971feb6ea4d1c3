"""A reply that cannot be read becomes an error reply; and FLARE still is what the guard was written for."""

from __future__ import annotations

import importlib
import inspect
import threading
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import msgpack
import pytest
from fedgram.flare import wire
from fedgram.flare.shield import frames, guard, vetting
from fedgram.flare.shield.guard import Guard
from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import (
    CellMessageAuthHeaderKey,
    FedEventHeader,
    FLContextKey,
    ReservedKey,
    ReturnCode,
    ServerCommandKey,
    ServerCommandNames,
)
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.widgets.streaming import create_analytic_dxo
from nvflare.fuel.f3.cellnet.defs import CellChannel, Encoding, MessageHeaderKey
from nvflare.fuel.f3.cellnet.defs import ReturnCode as CellReturnCode
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.download_service import DownloadService
from nvflare.fuel.f3.streaming.stream_const import StreamHeaderKey
from nvflare.fuel.f3.streaming.stream_types import StreamError, StreamFuture
from nvflare.fuel.utils import fobs
from nvflare.fuel.utils.fobs import FOBSContextKey, lobs
from nvflare.widgets.fed_event import FED_EVENT_TOPIC
from test_vetting import MAIN, reference, section

JOB, LIMIT = "some-job", 2**20
PARAMETER = {  # as FLARE serialises a torch.nn.Parameter
    "__fobs_type__": "torch.nn.parameter.Parameter",
    "__fobs_data__": {"data": {}},
    "__fobs_dc__": "nvflare.fuel.utils.fobs.decomposer.DataClassDecomposer",
}

# What the guard relies on in FLARE 2.9.0. When one of these changes, read it, and the guard, again: does a reply
# still come this way, is every size, channel and thread still where the guard looks for it?
RELIED_ON = {
    "fuel.f3.cellnet.cell:Adapter": "80cb569281",
    "fuel.f3.cellnet.cell:Cell._process_reply": "431d4402c5",
    "fuel.f3.cellnet.cell:Cell._process_stream_error": "8bc0311c1d",
    "fuel.f3.cellnet.cell:Cell._register_request_cb": "2a2dc95e9e",
    "fuel.f3.cellnet.cell:Cell._send_one_request": "ddcd954539",
    "fuel.f3.cellnet.core_cell:CoreCell._process_received_msg": "04cc7fbf26",
    "fuel.f3.cellnet.registry:Registry": "9bf4af64df",
    "fuel.f3.cellnet.utils:decode_payload": "e33332d1d8",
    "fuel.f3.streaming.blob_streamer:BlobHandler": "eb0bc5795e",
    "fuel.f3.streaming.byte_receiver:ByteReceiver": "c70efb4118",
    "fuel.f3.streaming.byte_receiver:RxTask": "27ac2d5eec",
    "fuel.f3.streaming.byte_streamer:ByteStreamer": "b147065459",
    "fuel.f3.streaming.byte_streamer:TxTask.handle_ack": "dd3374db52",
    "fuel.f3.streaming.download_service:DownloadService._handle_download": "1bfb152d5e",
    "fuel.f3.streaming.download_service:DownloadService._initialize": "0c517b7d53",
    "fuel.f3.streaming.download_service:_download_object": "70e011f1af",
    "fuel.f3.streaming.stream_types:StreamFuture": "b4306eee47",
    "fuel.utils.fobs.decomposers.via_downloader:ViaDownloaderDecomposer._download_from_remote_cell": "9d7b65a212",
    "fuel.utils.fobs.lobs:_get_one_section": "d4fec4f6ff",
    "fuel.utils.fobs.lobs:load_from_stream": "74600c23d3",
    "private.fed.authenticator:validate_auth_headers": "48f9b23cdb",
    "private.fed.server.server_command_agent:ServerCommandAgent": "949b9d9e1e",
    "private.fed.server.server_commands:SubmitUpdateCommand": "0536c91e02",
    "private.fed.server.server_runner:ServerRunner._process_submission": "05d6a5674f",
    "widgets.fed_event:FedEventRunner": "32b57b4d92",
}


def source(path: str) -> str:
    module, _, name = path.partition(":")
    found: Any = importlib.import_module(f"nvflare.{module}")
    for part in name.split("."):
        found = getattr(found, part)
    return sha256(inspect.getsource(found).encode()).hexdigest()[:10]


@pytest.mark.parametrize("path", RELIED_ON)
def test_flare_is_what_the_guard_was_written_for(path: str):
    assert source(path) == RELIED_ON[path], f"nvflare.{path} has changed: read it and fedgram/flare/guard.py again"


class Agent:
    """Stands for FLARE's ServerCommandAgent: what it is handed, and a task when asked for one."""

    def __init__(self) -> None:
        self.commands: list[Message] = []
        self.events: list[Message] = []
        self.cell = FakeCell()

    def execute_command(self, request: Message) -> Message:
        self.commands.append(request)
        answer = Shareable()
        if request.get_header(MessageHeaderKey.TOPIC) == ServerCommandNames.GET_TASK:
            answer.set_header(ServerCommandKey.TASK_NAME, "train")
            answer.set_header(FLContextKey.TASK_ID, "7")
        return Message({MessageHeaderKey.RETURN_CODE: CellReturnCode.OK}, answer)

    def aux_communicate(self, request: Message) -> Message:
        self.events.append(request)
        return Message({MessageHeaderKey.RETURN_CODE: CellReturnCode.OK}, Shareable())


class FakeCell:
    """What the guard uses of FLARE's Cell."""

    def __init__(self) -> None:
        self.callbacks: dict[tuple[str, str], Any] = {}
        self.filters: list[Any] = []
        self.answers: list[Message] = []
        self.replies: list[StreamFuture] = []
        self.core_cell = SimpleNamespace(
            my_info=SimpleNamespace(fqcn=f"server.{JOB}"),
            add_incoming_filter=lambda channel, topic, cb: self.filters.append(cb),
        )
        self.requests_dict: dict[str, Any] = {}
        self.byte_receiver = SimpleNamespace(reject=lambda message, error: None)
        self.decode_pass_through_channels: set[str] = set()
        self.decode_pass_through_topics: set[tuple[str, str]] = set()

    def get_fqcn(self) -> str:
        return f"server.{JOB}"

    def get_fobs_context(self, props: dict[str, Any] | None = None) -> dict[str, Any]:
        return dict(props or {})

    def register_blob_cb(self, channel: str, topic: str, callback: Any) -> None:
        self.callbacks[channel, topic] = callback

    def send_blob(self, channel: str, topic: str, target: str, message: Message, secure: bool, **_: Any) -> Any:
        self.answers.append(message)
        return SimpleNamespace(add_done_callback=lambda *args: None)

    def _process_reply(self, future: StreamFuture) -> None:
        self.replies.append(future)


class Server:
    """A guard with a fake FLARE around it, and a task given to red."""

    def __init__(self) -> None:
        self.agent = Agent()
        self.cell = self.agent.cell
        self.abort = Signal()
        self.guard = Guard(SimpleNamespace(server=SimpleNamespace(command_agent=self.agent)), self.abort, ["cka"])
        self.receive(CellChannel.SERVER_COMMAND, ServerCommandNames.GET_TASK, Shareable())
        self.agent.commands.clear()
        self.cell.answers.clear()

    def future(self, channel: str, topic: str, site: str = "red") -> StreamFuture:
        headers = {
            CellMessageAuthHeaderKey.CLIENT_NAME: site,
            MessageHeaderKey.ORIGIN: f"{site}.{JOB}",
            StreamHeaderKey.CHANNEL: channel,
            StreamHeaderKey.TOPIC: topic,
            StreamHeaderKey.PAYLOAD_ENCODING: Encoding.FOBS,
            StreamHeaderKey.STREAM_REQ_ID: "a-request",
        }
        return StreamFuture(1, headers)

    def receive(self, channel: str, topic: str, payload: Any, site: str = "red") -> None:
        future = self.future(channel, topic, site)
        future.set_result(payload if isinstance(payload, bytes) else fobs.dumps(payload))
        self.cell.callbacks[channel, "*"](future)

    def submit(self, payload: Any, site: str = "red") -> Shareable:
        """What FLARE gets to see of a reply."""
        self.receive(*frames.SUBMIT, payload, site)
        return self.agent.commands[-1].payload


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setattr(DownloadService, "initialize", lambda cell: None)
    return Server()


def reply(site: str = "red") -> Shareable:
    sent = FLModelUtils.to_shareable(FLModel(params={"loss": 1.0}, meta={}))
    peer = FLContext()
    peer.set_public_props({ReservedKey.IDENTITY_NAME: site})
    sent.set_peer_context(peer)
    sent.set_header(FLContextKey.TASK_NAME, "train")
    sent.add_cookie(FLContextKey.TASK_ID, "7")
    return sent


def test_a_good_reply_arrives_as_it_was_sent(server: Server):
    seen = server.submit(reply())
    assert seen.get_return_code() == ReturnCode.OK
    assert FLModelUtils.from_shareable(seen).params == {"loss": 1.0}
    assert server.cell.answers[-1].get_header(MessageHeaderKey.RETURN_CODE) == CellReturnCode.OK


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x64" + bytes(100), "breaks off"),
        (b"", "main body"),
        ([1, 2, 3], "list"),
        (section(lobs.MARKER_MAIN, 0, msgpack.packb(PARAMETER)), "is not allowed"),
        (section(lobs.MARKER_MAIN, 0, b"\x91" * 100_000 + b"\xc0"), "StackError"),
        (MAIN + section(lobs.MARKER_DATUM_FILE, 0, b"to fill a disk"), "a file"),
        (reply("blue"), "sender"),
        (Shareable(), "sender"),
    ],
    ids=["cut", "empty", "list", "foreign type", "too deep", "file", "another sender", "no sender"],
)
def test_what_cannot_be_read_becomes_an_error_of_that_site(server: Server, payload: Any, reason: str):
    seen = server.submit(payload)
    assert seen.get_return_code() == ReturnCode.EXECUTION_EXCEPTION
    assert (seen.get_header(FLContextKey.TASK_NAME), seen.get_cookie(FLContextKey.TASK_ID)) == ("train", "7")
    assert seen.get_peer_context().get_identity_name() == "red"
    said = vetting.reason_of("red", seen)
    assert said.startswith("red: a reply that cannot be read: ")
    assert reason in said
    assert server.cell.answers[-1].get_header(MessageHeaderKey.RETURN_CODE) == CellReturnCode.OK


def test_a_site_without_a_task_is_asked_to_try_again(server: Server):
    server.receive(*frames.SUBMIT, b"", site="blue")
    assert server.agent.commands == []
    unavailable = CellReturnCode.SERVICE_UNAVAILABLE
    assert server.cell.answers[-1].get_header(MessageHeaderKey.RETURN_CODE) == unavailable


def test_a_broken_transfer_is_a_refusal(server: Server):
    future = server.future(*frames.SUBMIT)
    future.set_exception(StreamError("read timed out"))
    server.cell.callbacks[CellChannel.SERVER_COMMAND, "*"](future)
    assert "read timed out" in vetting.reason_of("red", server.agent.commands[-1].payload)


@pytest.mark.parametrize("end", ["task", "job", "again"])
def test_a_transfer_that_stops_is_not_waited_for(server: Server, end: str):
    """It ends with its task, with the job, or when the site sends the reply once more."""
    stalled = server.future(*frames.SUBMIT)
    receive = server.cell.callbacks[CellChannel.SERVER_COMMAND, "*"]
    waiting = threading.Thread(target=receive, args=(stalled,), daemon=True)
    with server.guard.task(LIMIT):
        waiting.start()
        while server.guard._frames.of("red").reading is None:
            waiting.join(0.01)
        assert waiting.is_alive()
        if end == "again":
            server.receive(*frames.SUBMIT, reply())
        if end == "job":
            server.abort.trigger(True)
        if end != "task":
            waiting.join(10)
            assert not waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()
    refused = [vetting.reason_of("red", command.payload) for command in server.agent.commands]
    assert len(refused) == (0 if end == "again" else 1)
    if end != "job":
        assert server.submit(reply()).get_return_code() == ReturnCode.OK


def test_a_piece_of_a_reply_that_is_lost_is_asked_for_again_soon(server: Server, monkeypatch: pytest.MonkeyPatch):
    """FLARE waits ten minutes for it, and the round with it."""
    contexts: list[dict[str, Any]] = []
    monkeypatch.setattr(guard, "decode_payload", lambda message, key, fobs_ctx: contexts.append(fobs_ctx))
    server.submit(reply())
    assert [context[FOBSContextKey.DOWNLOAD_REQ_TIMEOUT] for context in contexts] == [wire.LOST_SECONDS]


def test_a_refused_frame_is_a_refused_reply(server: Server, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(guard.callback_thread_pool, "submit", lambda call, *args: call(*args))
    future = server.future(*frames.SUBMIT)
    server.guard._refuse_soon("red", Message({**future.headers, StreamHeaderKey.STREAM_ID: 1}, b""), "50 GB")
    assert vetting.reason_of("red", server.agent.commands[-1].payload).endswith("50 GB")


def test_what_is_fetched_must_not_say_where_to_fetch_more(server: Server):
    future = server.future(CellChannel.RETURN_ONLY, "download")
    server.cell.callbacks[CellChannel.RETURN_ONLY, "*"](future)
    (seen,) = server.cell.replies
    future.set_result(MAIN + reference())
    with pytest.raises(Exception, match="reference 1"):
        seen.result()


def event(kind: str = vetting.METRIC_EVENT) -> Shareable:
    sent = create_analytic_dxo("cka", 0.5, AnalyticsDataType.SCALAR, global_step=1).to_shareable()
    sent.set_header(FedEventHeader.EVENT_TYPE, kind)
    sent.set_peer_props({ReservedKey.IDENTITY_NAME: "red"})
    return sent


def test_metrics_pass_up_to_a_number_and_other_events_do_not(server: Server):
    for _ in range(guard._EVENTS):
        server.receive(CellChannel.AUX_COMMUNICATION, FED_EVENT_TOPIC, event())
    assert len(server.agent.events) == guard._EVENTS
    server.receive(CellChannel.AUX_COMMUNICATION, FED_EVENT_TOPIC, event())
    assert len(server.agent.events) == guard._EVENTS
    with server.guard.task(LIMIT):
        server.receive(CellChannel.AUX_COMMUNICATION, FED_EVENT_TOPIC, event(EventType.FATAL_SYSTEM_ERROR))
        assert len(server.agent.events) == guard._EVENTS
        server.receive(CellChannel.AUX_COMMUNICATION, FED_EVENT_TOPIC, event())
        assert len(server.agent.events) == guard._EVENTS + 1


def test_the_servers_own_commands_pass(server: Server):
    server.receive(CellChannel.SERVER_COMMAND, "abort", Shareable(), site="server")
    assert server.agent.commands[-1].get_header(MessageHeaderKey.TOPIC) == "abort"
