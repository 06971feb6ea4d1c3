"""A filter of every frame that a site sends to the server's job process, before anything is kept of it.

A message in FLARE is a stream of frames. FLARE itself keeps frames for as long as the sender likes and takes any
number of streams, each with a thread; it acts on any channel that has a callback, administration included.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nvflare.apis.fl_constant import CellMessageAuthHeaderKey, ReservedTopic, ServerCommandNames
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.defs import CellChannel, MessageHeaderKey
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.byte_receiver import RxTask
from nvflare.fuel.f3.streaming.byte_streamer import ByteStreamer
from nvflare.fuel.f3.streaming.download_service import OBJ_DOWNLOADER_CHANNEL, OBJ_DOWNLOADER_TOPIC
from nvflare.fuel.f3.streaming.stream_const import (
    STREAM_ACK_TOPIC,
    STREAM_CHANNEL,
    STREAM_DATA_TOPIC,
    STREAM_ERROR_TOPIC,
    StreamDataType,
    StreamHeaderKey,
)
from nvflare.fuel.f3.streaming.stream_types import StreamError
from nvflare.fuel.f3.streaming.stream_utils import callback_thread_pool
from nvflare.widgets.fed_event import FED_EVENT_TOPIC

from fedgram.errors import FedgramError, UpdateRejected

_log = logging.getLogger(__name__)

SUBMIT = (CellChannel.SERVER_COMMAND, ServerCommandNames.SUBMIT_UPDATE)
FETCH = (OBJ_DOWNLOADER_CHANNEL, OBJ_DOWNLOADER_TOPIC)
_REQUESTS = (  # all else that a site has to say to this process, in one frame each
    FETCH,
    (CellChannel.SERVER_COMMAND, ServerCommandNames.GET_TASK),
    (CellChannel.AUX_COMMUNICATION, FED_EVENT_TOPIC),
    (CellChannel.AUX_COMMUNICATION, ReservedTopic.SYNC_RUNNER),
    (CellChannel.AUX_COMMUNICATION, ReservedTopic.JOB_HEART_BEAT),
    (CellChannel.AUX_COMMUNICATION, ReservedTopic.TASK_CHECK),
)
_RECEIPTS = ((STREAM_CHANNEL, STREAM_ACK_TOPIC), (STREAM_CHANNEL, STREAM_ERROR_TOPIC))
_CERTIFICATES = ("credential_manager", "key_exchange")
_REQUEST_BYTES = 64 * 2**10
_REPLY_BYTES = 4 * 2**20  # names and plain values; tensors are fetched
_LEAST_BYTES = 16 * 2**10  # that a frame counts for: FLARE keeps a timer and more for each
_OPEN_STREAMS = 16  # unfinished, of one site; each holds a thread or two
_SUBMISSIONS, _WARNINGS = 100, 20  # of one site in the course of one task


@dataclass
class Traffic:
    """The traffic of one site.

    Attributes:
        streams: bytes so far, or announced, of its unfinished transfers, by origin and number; inf once refused.
        reading: stops the reading of its reply, while one is being read.
        fetched: bytes of that reply's tensors so far.
        submissions, events: numbers of, in the present task.
        warned: of what, in the present task.
    """

    streams: dict[tuple[str, int], float] = field(default_factory=dict)
    reading: Signal | None = None
    fetched: int = 0
    submissions: int = 0
    events: int = 0
    warned: set[str] = field(default_factory=set)


class Frames:
    """A filter of incoming messages for FLARE, with its memory of each site.

    Args:
        cell: FLARE's, of this process.
        refuse: called with the site, the first frame of a reply that is not let in, and the reason.
    """

    def __init__(self, cell: Any, refuse: Callable[[str, Message, str], None]):
        self._cell, self._refuse = cell, refuse
        self._limit: int | None = None
        self._sites: dict[str, Traffic] = {}
        self.lock = threading.Lock()

    @contextmanager
    def task(self, limit: int) -> Generator[None]:
        """Allow so many bytes of tensors from each site while a task stands; afterwards no transfer goes on."""
        with self.lock:
            self._limit = limit
            for traffic in self._sites.values():
                traffic.submissions = traffic.events = 0
                traffic.warned.clear()
        try:
            yield
        finally:
            with self.lock:
                self._limit = None
                for traffic in self._sites.values():
                    if traffic.reading is not None and not traffic.reading.triggered:
                        traffic.reading.trigger("it was not complete when the task ended")
            self.end_transfers(*self._sites)

    def end_transfers(self, *sites: str) -> None:
        """End all transfers: FLARE waits 300 s and more for the rest of one, even when its process should end."""
        with self.lock:
            known = [key for site in sites for key in self._sites[site].streams]
            for site in sites:
                self._sites[site].streams.clear()
        for task in map(RxTask.rx_task_map.get, known):
            if task is not None and not task.completed:
                task.stop(StreamError("ended by the server"))

    def of(self, site: str) -> Traffic:
        """The traffic of a site, by name."""
        return self._sites.setdefault(site, Traffic())

    def warn(self, site: str, problem: object) -> None:
        """Say in the log what was dropped, once for each task, and not without end."""
        warned, text = self.of(site).warned, printable(problem)
        if text not in warned and len(warned) < _WARNINGS:
            warned.add(text)
            _log.warning("%s: dropped what it sent: %s", site, text)

    def screen(self, message: Message) -> Message | None:
        """Look at a message and return one to have FLARE drop it."""
        site = sender(message.headers)
        if site is None:
            return None
        message.remove_header(MessageHeaderKey.CONN_URL)  # FLARE connects to whatever address is given there
        try:
            with self.lock:
                self._check(site, self.of(site), message)
        except Exception as error:  # a header can hold anything
            self.warn(site, error)
            return Message()
        return None

    def _check(self, site: str, traffic: Traffic, message: Message) -> None:
        get = message.get_header
        route, size = (get(MessageHeaderKey.CHANNEL), get(MessageHeaderKey.TOPIC)), len(message.payload or b"")
        if route == (STREAM_CHANNEL, STREAM_DATA_TOPIC):
            self._check_stream(site, traffic, message, size)
        elif route in _RECEIPTS:
            sent = ByteStreamer.tx_task_map.get(get(StreamHeaderKey.STREAM_ID))
            if sent is not None and sent.target != get(MessageHeaderKey.ORIGIN):
                raise UpdateRejected("a receipt for what another site was sent")
            if get(StreamHeaderKey.ERROR_TYPE) is not None:  # one of these types ends FLARE's process
                message.set_header(StreamHeaderKey.ERROR_TYPE, StreamError.__name__)
        elif route != _CERTIFICATES or size > _REQUEST_BYTES:
            raise UpdateRejected(f"a message for {'/'.join(map(str, route))}")

    def _check_stream(self, site: str, traffic: Traffic, message: Message, size: int) -> None:
        get: Any = message.get_header
        if get(StreamHeaderKey.ERROR_MSG) and not size:
            return  # the sender gives up a transfer of its own
        route = get(StreamHeaderKey.CHANNEL), get(StreamHeaderKey.TOPIC)
        announced = max(get(StreamHeaderKey.SIZE, 0), size)
        for header in (StreamHeaderKey.RETRY_TIMEOUT, StreamHeaderKey.RETRY_WAIT):
            message.remove_header(header)  # for how long FLARE is to remember this transfer: up to an hour
        if route[0] == CellChannel.RETURN_ONLY:
            self._check_fetched(traffic, message, announced, size)
            return
        message.set_header(StreamHeaderKey.RELIABLE, False)  # likewise, with a thread
        if route == SUBMIT:
            self._check_reply(site, traffic, message, announced, size)
            return
        whole = get(StreamHeaderKey.SEQUENCE) == 0 and get(StreamHeaderKey.DATA_TYPE) == StreamDataType.FINAL
        if route not in _REQUESTS or not whole or announced > _REQUEST_BYTES:
            raise UpdateRejected(f"{announced} bytes for {'/'.join(map(str, route))}")

    def _check_fetched(self, traffic: Traffic, message: Message, announced: int, size: int) -> None:
        asked = message.get_header(StreamHeaderKey.STREAM_REQ_ID) in self._cell.requests_dict
        if not asked or traffic.reading is None or self._limit is None:
            raise UpdateRejected("an answer to no question")
        traffic.fetched += max(size, _LEAST_BYTES)
        total = max(announced, traffic.fetched)
        if total > self._limit:
            reason = f"tensors of {total} bytes or more; the contract allows {self._limit}"
            if not traffic.reading.triggered:
                traffic.reading.trigger(reason)
                callback_thread_pool.submit(self._cell.byte_receiver.reject, message, StreamError(reason))
            raise UpdateRejected(reason)
        self._follow(traffic, message, announced, size)

    def _check_reply(self, site: str, traffic: Traffic, message: Message, announced: int, size: int) -> None:
        key = _key(message)
        if traffic.streams.get(key) == math.inf:
            raise UpdateRejected("the rest of a refused reply")
        traffic.submissions += key not in traffic.streams
        if traffic.submissions > _SUBMISSIONS:
            raise UpdateRejected(f"more than {_SUBMISSIONS} replies to one task")
        try:
            if self._limit is None:
                raise UpdateRejected("a reply when no task stands")
            total = self._follow(traffic, message, announced, size)
            if total > _REPLY_BYTES:
                raise UpdateRejected(f"{total} bytes or more besides tensors; {_REPLY_BYTES} are allowed")
        except UpdateRejected as error:
            traffic.streams[key] = math.inf
            self._refuse(site, message, str(error))
            raise

    def _follow(self, traffic: Traffic, message: Message, announced: int, size: int) -> float:
        """Bytes of this frame's transfer so far, or announced."""
        key = _key(message)
        if key not in traffic.streams and len(traffic.streams) >= _OPEN_STREAMS:
            tasks = {known: RxTask.rx_task_map.get(known) for known in traffic.streams}
            for known in [k for k, task in tasks.items() if task is None or task.completed or task.failed]:
                del traffic.streams[known]
            if len(traffic.streams) >= _OPEN_STREAMS:
                raise UpdateRejected(f"more than {_OPEN_STREAMS} transfers at once")
        traffic.streams[key] = max(announced, traffic.streams.get(key, 0) + size)
        return traffic.streams[key]


def _key(message: Message) -> Any:
    return message.get_header(MessageHeaderKey.ORIGIN), message.get_header(StreamHeaderKey.STREAM_ID)


def sender(headers: Any) -> str | None:
    """The site that a message comes from, as the server's parent has verified; None for the server itself."""
    name = headers.get(CellMessageAuthHeaderKey.CLIENT_NAME) or FQCN.split(headers[MessageHeaderKey.ORIGIN])[0]
    return None if name == FQCN.ROOT_SERVER else str(name)


def printable(problem: object) -> str:
    """Make a text one line of plain ASCII, not too long: it may hold what a site made up."""
    text = problem.problem if isinstance(problem, FedgramError) else str(problem) or type(problem).__name__
    return ascii(" ".join(text.split()))[1:-1][:240]
