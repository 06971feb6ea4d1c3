"""A site that does not only compute wrongly but attacks FLARE's processes, differently in every round.

Most of it needs no more than an Executor of one's own; the rest is what a patched FLARE at the site could do.
On FLARE 2.9.0 as it is, 16 of them end the job for all, two keep it from ending, and the enormous ones take memory
until there is none. The rest does no harm there and must do none here.
"""

from __future__ import annotations

import json
import math
import os
import signal
import time
import uuid
from collections.abc import Callable
from typing import Any

import torch
from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from nvflare.apis.analytix import AnalyticsDataType
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import (
    AdminCommandNames,
    FedEventHeader,
    FLContextKey,
    ReturnCode,
    ServerCommandNames,
)
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.signal import Signal
from nvflare.app_common.abstract.fl_model import FLModel, ParamsType
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_common.widgets.streaming import create_analytic_dxo
from nvflare.app_opt.pt.tensor_downloader import TensorDownloadable
from nvflare.fuel.common.exit_codes import ProcessExitCode
from nvflare.fuel.f3.cellnet.defs import CellChannel, CellChannelTopic, Encoding
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.byte_receiver import RxTask
from nvflare.fuel.f3.streaming.download_service import ProduceRC
from nvflare.fuel.f3.streaming.stream_const import (
    STREAM_CHANNEL,
    STREAM_DATA_TOPIC,
    StreamDataType,
    StreamHeaderKey,
)
from nvflare.fuel.f3.streaming.stream_types import BlobSizeError
from nvflare.fuel.utils.fobs import dots, lobs
from nvflare.private.defs import CellMessageHeaderKeys, JobFailureMsgKey
from nvflare.widgets.fed_event import FED_EVENT_TOPIC


class Site:
    """What an attack has at hand."""

    def __init__(self, fl_ctx: FLContext, task: Shareable, abort: Signal):
        self.fl_ctx, self.task, self.abort = fl_ctx, task, abort
        self.engine = fl_ctx.get_engine()
        self.cell = self.engine.get_cell()
        self.server = FQCN.join([FQCN.ROOT_SERVER, fl_ctx.get_job_id()])

    def command(self, topic: str, payload: Any, encoding: str | None = None, seconds: float = 5) -> Message:
        headers = {StreamHeaderKey.PAYLOAD_ENCODING: encoding} if encoding else {}
        return self.cell.send_request(
            channel=CellChannel.SERVER_COMMAND,
            target=self.server,
            topic=topic,
            request=Message(headers, payload),
            timeout=seconds,
        )

    def frame(
        self, stream: int, sequence: int, size: int, payload: bytes, kind: int = StreamDataType.CHUNK
    ) -> None:
        headers = {
            StreamHeaderKey.STREAM_ID: stream,
            StreamHeaderKey.SEQUENCE: sequence,
            StreamHeaderKey.SIZE: size,
            StreamHeaderKey.DATA_TYPE: kind,
            StreamHeaderKey.CHANNEL: CellChannel.SERVER_COMMAND,
            StreamHeaderKey.TOPIC: ServerCommandNames.SUBMIT_UPDATE,
        }
        message = Message(headers, payload)
        self.cell.core_cell.fire_and_forget(STREAM_CHANNEL, STREAM_DATA_TOPIC, self.server, message)

    def event(self, kind: str, event: Shareable) -> None:
        event.set_header(FedEventHeader.EVENT_TYPE, kind)
        event.set_header(FedEventHeader.TIMESTAMP, time.time())
        self.engine.fire_and_forget_aux_request(topic=FED_EVENT_TOPIC, request=event, fl_ctx=self.fl_ctx)

    def wait(self) -> None:
        while not self.abort.triggered:
            time.sleep(0.1)

    def nothing(self) -> Shareable:
        return make_reply(ReturnCode.EXECUTION_EXCEPTION)


def reply(**params: Any) -> Shareable:
    return FLModelUtils.to_shareable(FLModel(params_type=ParamsType.FULL, params=params, meta={}))


def section(marker: int, dot: int, body: bytes) -> bytes:
    head = uuid.uuid4().bytes if marker != lobs.MARKER_MAIN else b""
    return lobs.HEADER_STRUCT.pack(marker, dot, len(head) + len(body)) + head + body


class Unheard:
    """Of a class that the server does not know."""

    def __init__(self) -> None:
        self.value = 1


def parameter(site: Site) -> Shareable:
    return reply(gram=torch.nn.Parameter(torch.zeros(4)))


def strided(site: Site) -> Shareable:
    return reply(gram=torch.zeros(8, 8).t()[::2])


def unknown(site: Site) -> Shareable:
    return reply(gram=Unheard())


def enormous(site: Site) -> Shareable:
    return reply(gram=torch.zeros(64 * 2**20, dtype=torch.uint8))


def many(site: Site) -> Shareable:
    return reply(**{f"gram{i}": torch.zeros(2**18, dtype=torch.uint8) for i in range(64)})


def announced(site: Site) -> Shareable:
    site.frame(1, 0, 50 * 10**9, b"x")
    return hang(site)


def frame(site: Site) -> Shareable:
    """One frame, with no message around it: gRPC holds it in memory, often, before FLARE has a look at it."""
    site.frame(1, 0, 10**8, bytes(10**8))
    time.sleep(3)  # the connection is cut, and comes back
    return site.nothing()


def code(site: Site) -> Shareable:
    return make_reply(ReturnCode.TASK_UNKNOWN)


def empty(site: Site) -> Shareable:
    return Shareable()


def corrupt(site: Site) -> Shareable:
    site.command(ServerCommandNames.SUBMIT_UPDATE, b"\x64" + bytes(range(200)), Encoding.FOBS)
    return hang(site)


def deep(site: Site) -> Shareable:
    body = section(lobs.MARKER_MAIN, 0, b"\x91" * 1_000_000 + b"\xc0")
    site.command(ServerCommandNames.SUBMIT_UPDATE, body, Encoding.FOBS)
    return hang(site)


def file(site: Site) -> Shareable:
    body = section(lobs.MARKER_MAIN, 0, b"\xc0") + section(lobs.MARKER_DATUM_FILE, 0, bytes(1000))
    site.command(ServerCommandNames.SUBMIT_UPDATE, body, Encoding.FOBS)
    return hang(site)


def elsewhere(site: Site) -> Shareable:
    where = json.dumps({"fqcn": FQCN.ROOT_SERVER, "ref_id": str(uuid.uuid4())}).encode()
    body = section(lobs.MARKER_MAIN, 0, b"\xc0") + section(lobs.MARKER_DATUM_TEXT, dots.TENSOR_DOWNLOAD, where)
    site.command(ServerCommandNames.SUBMIT_UPDATE, body, Encoding.FOBS)
    return hang(site)


def nested(site: Site) -> Shareable:
    """What is fetched says: fetch more."""
    TensorDownloadable.produce = lambda self, state, by: (ProduceRC.OK, [torch.zeros(3)], {"start": 0, "count": 1})
    return reply(gram=torch.zeros(4))


def trickle(site: Site) -> Shareable:
    """Nothing at a time, for ever."""
    TensorDownloadable.produce = lambda self, state, by: (ProduceRC.OK, [], {"start": 0, "count": 0})
    return reply(gram=torch.zeros(4))


def stuck(site: Site) -> Shareable:
    """Nothing at all, with the transfer begun."""
    TensorDownloadable.produce = lambda self, state, by: site.wait()
    return reply(gram=torch.zeros(4))


def unfinished(site: Site) -> Shareable:
    """Thirty replies of which only the beginning comes, and thirty of which only the middle does."""
    for stream in range(30):
        site.frame(1000 + stream, 0, 10**6, b"x")
        site.frame(2000 + stream, 7, 10**6, b"x")
    return hang(site)


def repeated(site: Site) -> Shareable:
    """All at once: what comes after the end of a task counts as a reply to the next one."""
    for stream in range(150):
        site.frame(3000 + stream, 0, 50, b"\x64" * 50, StreamDataType.FINAL)
    return hang(site)


def abort(site: Site) -> Shareable:
    site.command("abort", Shareable(), seconds=1)
    return site.nothing()


def goodbye(site: Site) -> Shareable:
    """In the name of the server's parent, which forwards it."""
    channel, topic = CellChannel.CELLNET, CellChannelTopic.Bye
    site.cell.core_cell.fire_and_forget(channel, topic, site.server, Message())
    return site.nothing()


def speed(site: Site) -> Shareable:
    """FLARE's network test: any process makes up as many bytes as it is asked for; here a few."""
    request = Message(payload={"to": site.server, "num": 1, "size": 1})
    site.cell.core_cell.fire_and_forget("_net_manager", "speed", site.server, request)
    return site.nothing()


def fatal(site: Site) -> Shareable:
    site.event(EventType.FATAL_SYSTEM_ERROR, Shareable())
    return site.nothing()


def metrics(site: Site) -> Shareable:
    """Made-up names, no numbers, another site's, and far too many."""
    for number in range(1500):
        tag, value = ("cka", math.nan) if number % 2 else (f"tag {number}", 1.0)
        kind = f"fed.{FLContextKey.EVENT_DATA}" if number % 5 == 0 else "fed.analytix_log_stats"
        dxo = create_analytic_dxo(tag, value, AnalyticsDataType.SCALAR, global_step=number)
        site.event(kind, dxo.to_shareable())
    return site.nothing()


def to_parent(site: Site) -> Shareable:
    """The server's parent is told that the job has failed, in both ways that it knows, and to test its net."""
    tell = site.cell.core_cell.fire_and_forget
    job = site.fl_ctx.get_job_id()
    failed = {JobFailureMsgKey.JOB_ID: job, JobFailureMsgKey.CODE: ProcessExitCode.EXCEPTION}
    failed[JobFailureMsgKey.REASON] = "the others are to stop"
    status = Message({CellMessageHeaderKeys.JOB_ID: job}, {"execution_error": True})
    parent, topic = CellChannel.SERVER_PARENT_LISTENER, ServerCommandNames.UPDATE_RUN_STATUS
    tell("_net_manager", "speed", FQCN.ROOT_SERVER, Message(payload={"to": site.server, "num": 1, "size": 1}))
    tell(parent, topic, FQCN.ROOT_SERVER, status)
    report = CellChannelTopic.REPORT_JOB_FAILURE
    tell(CellChannel.SERVER_MAIN, report, FQCN.ROOT_SERVER, Message({}, failed))
    time.sleep(1)
    return site.nothing()


def to_another(site: Site) -> Shareable:
    """Another site's job process is told to end."""
    command = Message({}, Shareable())
    target = FQCN.join(["blue", site.fl_ctx.get_job_id()])
    site.cell.core_cell.fire_and_forget(CellChannel.CLIENT_COMMAND, AdminCommandNames.ABORT, target, command)
    time.sleep(1)
    return site.nothing()


def suicide(site: Site) -> Shareable:
    os.kill(os.getpid(), signal.SIGKILL)
    return site.nothing()


def toolarge(site: Site) -> Shareable:
    """Whatever came from the server was too large, she says."""
    for task in list(RxTask.rx_task_map.values()):
        if task.origin == site.server:
            task._send_error("too large", BlobSizeError.__name__)
    return site.nothing()


def hang(site: Site) -> Shareable:
    """Wait until the server has lost interest in this task, so that the attack's reply is all that it gets."""
    time.sleep(0.5)
    return site.nothing()


READ = "a reply that cannot be read"
FAULTS: dict[str, tuple[Callable[[Site], Shareable], str | None]] = {
    "a Parameter": (parameter, f"{READ}: Type 'torch.nn.parameter.Parameter' is not allowed"),
    "a strided tensor": (strided, READ),
    "an unknown class": (unknown, f"{READ}: Type 'hostile.Unheard' is not allowed"),
    "an enormous tensor": (enormous, f"{READ}: tensors of"),
    "many tensors": (many, f"{READ}: tensors of"),
    "50 GB announced": (announced, f"{READ}: 50000000000 bytes or more"),
    "one frame of 100 MB": (frame, "answered with EXECUTION_EXCEPTION"),
    "a code that ends jobs": (code, "answered with TASK_UNKNOWN"),
    "no model": (empty, f"{READ}: the shareable is not a valid DXO"),
    "corrupt bytes": (corrupt, READ),
    "deep nesting": (deep, READ),
    "a file": (file, f"{READ}: a file in a message"),
    "tensors elsewhere": (elsewhere, f"{READ}: tensors of another process"),
    "references in what is fetched": (nested, f"{READ}: reference 1 to data of kind 6"),
    "an abort": (abort, "answered with EXECUTION_EXCEPTION"),
    "a goodbye": (goodbye, "answered with EXECUTION_EXCEPTION"),
    "a speed test": (speed, "answered with EXECUTION_EXCEPTION"),
    "a fatal event": (fatal, "answered with EXECUTION_EXCEPTION"),
    "a flood of metrics": (metrics, "answered with EXECUTION_EXCEPTION"),
    "all too large": (toolarge, "answered with EXECUTION_EXCEPTION"),
    "a flood of replies": (repeated, READ),
    "unfinished transfers": (unfinished, f"{READ}: more than 16 transfers at once"),
    "a trickle": (trickle, f"{READ}: tensors of"),
    "a transfer that stops": (stuck, None),
    "lies to the parent": (to_parent, "answered with EXECUTION_EXCEPTION"),
    "an order to another site": (to_another, "answered with EXECUTION_EXCEPTION"),
    "kill -9 of itself": (suicide, None),
}


class HostileExecutor(SiteExecutor):
    """Hostile when first asked who it is, honest when asked again, then attack r of FAULTS in round r, r ≥ 1.

    The server asks only sites that have introduced themselves to train; anything else is answered with an error.
    """

    def __init__(self, modality: str):
        super().__init__(modality)
        self._asked = 0

    def handle_event(self, event_type: str, fl_ctx: FLContext) -> None:
        super().handle_event(event_type, fl_ctx)
        if event_type == EventType.START_RUN:  # no answer comes to what is lost in her own flood: send it again
            fl_ctx.get_prop(FLContextKey.RUNNER).submit_task_result_timeout = 3.0

    def execute(self, task_name: str, shareable: Shareable, fl_ctx: FLContext, abort_signal: Signal) -> Shareable:
        site = Site(fl_ctx, shareable, abort_signal)
        if task_name == wire.INTRODUCE:
            self._asked += 1
            if self._asked == 1:
                return parameter(site)
            return super().execute(task_name, shareable, fl_ctx, abort_signal)
        if task_name != wire.TRAIN:
            return site.nothing()
        attack, _ = list(FAULTS.values())[FLModelUtils.from_shareable(shareable).current_round - 1]
        return attack(site)
