"""What the server's parent process takes from a site, and hands on for it."""

from __future__ import annotations

from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from fedgram.flare.shield.parent import ServerGate
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import CellMessageAuthHeaderKey, ServerCommandNames
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey, MessageType
from nvflare.fuel.f3.drivers import aio_grpc_driver, grpc_driver
from nvflare.fuel.f3.drivers.net_utils import MAX_FRAME_SIZE
from nvflare.fuel.f3.message import Message


class Server:
    """What the gate uses of FLARE's server."""

    def __init__(self) -> None:
        self.filters: list[Any] = []
        core = SimpleNamespace(add_incoming_filter=lambda channel, topic, cb: self.filters.append(cb))
        engine = SimpleNamespace(get_cell=lambda: SimpleNamespace(core_cell=core))
        context: Any = SimpleNamespace(get_engine=lambda: engine)
        gate = ServerGate()
        gate.handle_event(EventType.START_RUN, context)
        assert not self.filters
        gate.handle_event(EventType.SYSTEM_START, context)

    def lets_in(self, channel: str, topic: str, to: str = "server", site: str = "red", **more: Any) -> bool:
        headers = {
            MessageHeaderKey.CHANNEL: channel,
            MessageHeaderKey.TOPIC: topic,
            MessageHeaderKey.DESTINATION: to,
            MessageHeaderKey.MSG_TYPE: MessageType.REQ,
            CellMessageAuthHeaderKey.CLIENT_NAME: site,
        }
        (screen,) = self.filters
        return screen(Message(headers | more.get("headers", {}), more.get("payload", b"x"))) is None


DRIVERS = (aio_grpc_driver, grpc_driver)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    for driver in DRIVERS:
        monkeypatch.setattr(driver, "GRPC_DEFAULT_OPTIONS", list(driver.GRPC_DEFAULT_OPTIONS))
    return Server()


@pytest.mark.parametrize("driver", DRIVERS)
def test_grpc_takes_no_enormous_frame(server: Server, driver: ModuleType):
    """The options of a listener are those of its module at the time when it is made."""
    options = dict(driver.GRPC_DEFAULT_OPTIONS)
    assert options["grpc.max_receive_message_length"] == 64 * 2**20
    assert options["grpc.max_send_message_length"] == MAX_FRAME_SIZE
    kind = driver.GrpcDriver if driver is grpc_driver else driver.AioGrpcDriver
    assert kind().options is driver.GRPC_DEFAULT_OPTIONS


@pytest.mark.parametrize("topic", ["challenge", "register", "heart_beat", "quit", "report_job_failure"])
def test_a_site_may_come_live_and_go(server: Server, topic: str):
    assert server.lets_in(CellChannel.SERVER_MAIN, topic)
    assert not server.lets_in(CellChannel.SERVER_MAIN, topic, payload=bytes(2**20 + 1))


@pytest.mark.parametrize(
    ("channel", "topic"),
    [
        ("_net_manager", "speed"),
        (CellChannel.SERVER_PARENT_LISTENER, ServerCommandNames.UPDATE_RUN_STATUS),
        (CellChannel.SERVER_PARENT_LISTENER, ServerCommandNames.HEARTBEAT),
        (CellChannel.CELLNET, "bulk"),
        (CellChannel.HCI, "command"),
        ("sm__STREAM", "sm__DATA"),
    ],
)
def test_of_the_parent_it_may_ask_nothing_else(server: Server, channel: str, topic: str):
    assert not server.lets_in(channel, topic)
    assert server.lets_in(channel, topic, site="server")
    assert server.lets_in(channel, topic, site="server_job")
    assert server.lets_in(channel, topic, site="admin@hub.example.org")


def test_it_reaches_the_job_and_its_own_processes_but_no_other_site(server: Server):
    assert server.lets_in("sm__STREAM", "sm__DATA", to="server.job")
    assert server.lets_in("sm__STREAM", "sm__DATA", to="red.job")
    assert server.lets_in("sm__STREAM", "sm__DATA", to="relay.red.job")
    assert not server.lets_in("sm__STREAM", "sm__DATA", to="blue.job")
    assert not server.lets_in(CellChannel.CLIENT_COMMAND, "abort", to="blue.job")


def test_an_answer_passes(server: Server):
    answer = {MessageHeaderKey.MSG_TYPE: MessageType.REPLY}
    assert server.lets_in(CellChannel.CLIENT_MAIN, "", headers=answer)
    assert not server.lets_in(CellChannel.CLIENT_MAIN, "", to="blue", headers=answer)


def test_the_log_does_not_fill(server: Server, caplog: pytest.LogCaptureFixture):
    for number in range(2000):
        server.lets_in("_net_manager", f"made up {number}")
        server.lets_in("_net_manager", "speed")
    assert len(caplog.records) <= 1000
