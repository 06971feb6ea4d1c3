"""The guard of the server's job process: one site can do nothing to it that the others would notice.

FLARE 2.9.0 trusts the processes of a registered site. A reply that cannot be decoded ends the server's process
(``os._exit`` in ``nvflare/fuel/f3/cellnet/cell.py``), and so does a site's word that a message to it was too large
or that it does not know a task. A site can fire any event and give any command in the server's process. Nothing
limits the size of a reply but the memory of the machine. This module stands before FLARE's own code: a reply that
cannot be used becomes an error reply of that site, with the reason. It replaces none of FLARE's functions and
hangs in by calls that register callbacks; a test fails when the source of what it relies on changes.

What it cannot do: keep a site from flooding network and processors. FLARE counts messages by names that their
senders make up, so its statistics grow with such a flood. Before this process has come to :class:`Guard`, some
seconds after its start, it is as FLARE made it. Size of a frame, and the server's *parent* process: see
:mod:`fedgram.flare.shield.parent`.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any

from nvflare.apis.fl_constant import FLContextKey, ServerCommandKey
from nvflare.apis.shareable import Shareable
from nvflare.apis.signal import Signal
from nvflare.fuel.f3.cellnet.cell import Adapter
from nvflare.fuel.f3.cellnet.defs import CellChannel, Encoding, MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.cellnet.utils import decode_payload, make_reply
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.download_service import DownloadService
from nvflare.fuel.f3.streaming.stream_const import StreamHeaderKey
from nvflare.fuel.f3.streaming.stream_types import StreamError, StreamFuture
from nvflare.fuel.f3.streaming.stream_utils import callback_thread_pool
from nvflare.fuel.utils.fobs import FOBSContextKey
from nvflare.widgets.fed_event import FED_EVENT_TOPIC

from fedgram.errors import UpdateRejected
from fedgram.flare import wire
from fedgram.flare.shield import vetting
from fedgram.flare.shield.frames import FETCH, SUBMIT, Frames, printable, sender

_EVENTS = 1000  # live metrics of one site in the course of one task
_POLL_SECONDS = 0.1
_AGAIN = "it was sent again"


class Guard:
    """A guard between the sites and FLARE's code in the server's job process, from construction on.

    Args:
        engine: FLARE's server engine.
        abort: of the job; ends every transfer.
        metrics: names under which a site may stream numbers.
    """

    def __init__(self, engine: Any, abort: Signal, metrics: Collection[str]):
        self._agent = engine.server.command_agent
        self._cell = self._agent.cell
        self._job_id = FQCN.split(self._cell.get_fqcn())[-1]
        self._abort, self._metrics = abort, frozenset(metrics)
        self._given: dict[str, tuple[str, str]] = {}  # name and id of the task that a site was last given
        self._frames = Frames(self._cell, self._refuse_soon)
        DownloadService.initialize(self._cell)  # else it registers itself later, in our place
        callbacks = {
            (CellChannel.SERVER_COMMAND, "*"): self._command,
            (CellChannel.AUX_COMMUNICATION, "*"): self._aux,
            FETCH: DownloadService._handle_download,
        }
        self._adapters = {channel: self._adapter(callback) for (channel, _), callback in callbacks.items()}
        for channel, topic in callbacks:
            self._cell.register_blob_cb(channel, topic, self._receive)
        self._cell.register_blob_cb(CellChannel.RETURN_ONLY, "*", self._receive_fetched)
        self._cell.core_cell.add_incoming_filter("*", "*", self._frames.screen)

    def task(self, limit: int) -> AbstractContextManager[None]:
        """Allow so many bytes of tensors from each site while a task stands; nothing is read on afterwards."""
        return self._frames.task(limit)

    # Whole messages, before FLARE decodes them.

    def _receive(self, future: StreamFuture) -> None:
        headers = future.headers or {}
        site = sender(headers)
        route = headers.get(StreamHeaderKey.CHANNEL), headers.get(StreamHeaderKey.TOPIC)
        if site is not None and route == SUBMIT:
            self._receive_submission(site, future)
            return
        if site is not None:
            _check_plain(future, future.result())
        self._adapters[str(route[0])].call(future)

    def _receive_fetched(self, future: StreamFuture) -> None:
        """Receive an answer of the process that we fetch tensors from; FLARE calls back at its first byte."""
        if sender(future.headers or {}) is not None:
            wait = future.result

            def checked(timeout: float | None = None) -> Any:
                payload = wait(timeout)
                _check_plain(future, payload)
                return payload

            future.result = checked
        self._cell._process_reply(future)

    def _receive_submission(self, site: str, future: StreamFuture) -> None:
        """Receive a reply; an unreadable one becomes an error reply. Of one site, one is read at a time."""
        traffic, stop = self._frames.of(site), Signal(self._abort)
        with self._frames.lock:
            busy = traffic.reading
            if busy is None:
                traffic.reading, traffic.fetched = stop, 0
        if busy is not None:
            busy.trigger(_AGAIN)
            self._hand_on(future, None)
            return
        try:
            reply = vetting.check_submission(site, self._read(future, stop))
        except Exception as error:  # whatever a site sends, the job must outlive it
            reply = None if stop.value == _AGAIN else self._refusal(site, stop.value or error)
        finally:
            with self._frames.lock:
                traffic.reading = None
            self._frames.end_transfers(site)
        self._hand_on(future, reply)

    def _read(self, future: StreamFuture, stop: Signal) -> Any:
        """Decode a reply, which fetches its tensors."""
        while not (future.done() or stop.triggered):
            future.waiter.wait(_POLL_SECONDS)
        if stop.triggered:
            raise UpdateRejected("stopped")
        headers = dict(future.headers or {})
        message = Message(headers, future.result())
        _check_plain(future, message.payload, headers[MessageHeaderKey.ORIGIN])
        context = self._cell.get_fobs_context(
            {FOBSContextKey.ABORT_SIGNAL: stop, FOBSContextKey.DOWNLOAD_REQ_TIMEOUT: wire.LOST_SECONDS}
        )
        decode_payload(message, StreamHeaderKey.PAYLOAD_ENCODING, fobs_ctx=context)
        return message.payload

    def _refuse_soon(self, site: str, frame: Message, reason: str) -> None:
        callback_thread_pool.submit(self._refuse, site, frame, reason)

    def _refuse(self, site: str, frame: Message, reason: str) -> None:
        headers = frame.headers or {}
        future = StreamFuture(headers[StreamHeaderKey.STREAM_ID], headers)
        self._hand_on(future, self._refusal(site, reason))
        self._cell.byte_receiver.reject(frame, StreamError(reason))

    def _refusal(self, site: str, problem: object) -> Shareable | None:
        given = self._given.get(site)
        reason = f"{site}: a reply that cannot be read: {printable(problem)}"
        return vetting.refusal(site, self._job_id, given, reason) if given else None

    def _hand_on(self, future: StreamFuture, reply: Shareable | None) -> None:
        """Hand a reply to FLARE as if FLARE had decoded it; without one the site is told to try again."""
        headers = {k: v for k, v in (future.headers or {}).items() if k != StreamHeaderKey.PAYLOAD_ENCODING}
        done = StreamFuture(future.get_stream_id(), headers)
        done.set_result(reply)
        unavailable = self._adapter(lambda request: make_reply(ReturnCode.SERVICE_UNAVAILABLE))
        (unavailable if reply is None else self._adapters[SUBMIT[0]]).call(done)

    def _adapter(self, callback: Any) -> Adapter:
        return Adapter(callback, self._cell.core_cell.my_info, self._cell)

    # Decoded requests, before FLARE acts on them.

    def _command(self, request: Message) -> Message:
        answer = self._agent.execute_command(request)
        site, task = sender(request.headers), answer.payload
        if site is not None and isinstance(task, Shareable) and task.get_header(FLContextKey.TASK_ID):
            name, number = task.get_header(ServerCommandKey.TASK_NAME), task.get_header(FLContextKey.TASK_ID)
            self._given[site] = str(name), str(number)
        return answer

    def _aux(self, request: Message) -> Message:
        site = sender(request.headers)
        if site is not None and request.get_header(MessageHeaderKey.TOPIC) == FED_EVENT_TOPIC:
            traffic = self._frames.of(site)
            traffic.events += 1
            try:
                if traffic.events > _EVENTS:
                    raise UpdateRejected(f"more than {_EVENTS} events")
                vetting.check_event(site, request.payload, self._metrics)
            except Exception as error:
                self._frames.warn(site, error)
                return make_reply(ReturnCode.INVALID_REQUEST)
        return self._agent.aux_communicate(request)


def _check_plain(future: StreamFuture, payload: Any, source: str | None = None) -> None:
    if (future.headers or {}).get(StreamHeaderKey.PAYLOAD_ENCODING) == Encoding.FOBS:
        vetting.check_sections(payload, source)
