"""The gate of the server's parent process, through which one site could reach it and the other sites.

FLARE 2.9.0 forwards whatever a registered site sends to any process of the federation, and those obey: a site can
end another site's job process, have the server's parent make up a test message of any size, or tell it that a job
of its has failed. That a site's own job process ends is another matter: :mod:`fedgram.flare.rejoin`.

``local/resources.json`` of the server names this component. It is policy of the server, for all of its jobs; no
job can take it out. Like :mod:`fedgram.flare.shield.guard` it registers callbacks, and it lowers one constant of
FLARE: the size of a frame that gRPC takes. One of 1 GB takes 5.6 GB of the parent's memory before
any callback sees it.
"""

from __future__ import annotations

from typing import Any

from nvflare.apis.event_type import EventType
from nvflare.apis.fl_component import FLComponent
from nvflare.apis.fl_context import FLContext
from nvflare.fuel.f3.cellnet.defs import CellChannel, CellChannelTopic, MessageHeaderKey, MessageType
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.drivers import aio_grpc_driver, grpc_driver
from nvflare.fuel.f3.message import Message
from nvflare.private.defs import AUTH_CLIENT_NAME_FOR_SJ

from fedgram.flare.shield.frames import printable, sender

_REQUESTS = (  # all that a site has to say to this process
    (CellChannel.SERVER_MAIN, CellChannelTopic.Challenge),
    (CellChannel.SERVER_MAIN, CellChannelTopic.Register),
    (CellChannel.SERVER_MAIN, CellChannelTopic.HEART_BEAT),
    (CellChannel.SERVER_MAIN, CellChannelTopic.REPORT_JOB_FAILURE),
    (CellChannel.SERVER_MAIN, CellChannelTopic.Quit),
    (CellChannel.CELLNET, CellChannelTopic.Bye),
    ("credential_manager", "key_exchange"),
)
_BYTES = 2**20  # of a request; FLARE's own are a few hundred
_FRAME_BYTES = 64 * 2**20  # FLARE sends large messages in frames of 1 MiB; its limit is 2 GiB


class ServerGate(FLComponent):
    """A gate that lets a site speak to the server's processes only, and ask the parent only for what it needs."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[str] = set()
        for driver in (grpc_driver, aio_grpc_driver):  # FLARE makes this component before it listens
            options = dict(driver.GRPC_DEFAULT_OPTIONS) | {"grpc.max_receive_message_length": _FRAME_BYTES}
            driver.GRPC_DEFAULT_OPTIONS[:] = options.items()

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        """Begin to screen messages when FLARE's own callbacks are in place, in the parent alone."""
        if event_type == EventType.SYSTEM_START:
            engine: Any = fl_ctx.get_engine()  # a ServerEngine; FLARE's annotations say None of what it holds
            engine.get_cell().core_cell.add_incoming_filter("*", "*", self._screen)

    def _screen(self, message: Message) -> Message | None:
        """Look at a message, whose sender FLARE has verified, and return one to have FLARE drop it."""
        site = sender(message.headers)
        if site in (None, AUTH_CLIENT_NAME_FOR_SJ) or "@" in site:
            return None  # the server's own processes, and administrators, whom FLARE knows by their address
        message.remove_header(MessageHeaderKey.CONN_URL)  # FLARE connects to whatever address is given there
        channel, topic = message.get_header(MessageHeaderKey.CHANNEL), message.get_header(MessageHeaderKey.TOPIC)
        to = FQCN.split(str(message.get_header(MessageHeaderKey.DESTINATION)))
        if to[0] != FQCN.ROOT_SERVER:
            return self._drop(site, f"a message for {to[0]}", site not in to)
        if len(to) > 1:
            return None  # the job's process has a guard of its own
        if message.get_header(MessageHeaderKey.MSG_TYPE) != MessageType.REQ:
            return None  # FLARE knows what it has asked for
        small = len(message.payload or b"") <= _BYTES
        return self._drop(site, f"a request for {channel}/{topic}", not small or (channel, topic) not in _REQUESTS)

    def _drop(self, site: str | None, what: str, dropped: bool) -> Message | None:
        if not dropped:
            return None
        text = printable(f"{site}: dropped what it sent: {what}")
        if text not in self._told and len(self._told) < 1000:
            self._told.add(text)
            self.logger.warning(text)
        return Message()
