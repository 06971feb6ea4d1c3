"""The vetting of a site's messages, by form and size, before FLARE's own code sees them."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator
from typing import Any

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE, AnalyticsData, AnalyticsDataType
from nvflare.apis.dxo import from_shareable
from nvflare.apis.fl_constant import FedEventHeader, FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable, make_reply
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.fuel.utils.buffer_list import BufferList
from nvflare.fuel.utils.fobs import dots, lobs
from nvflare.private.fed.server.server_runner import ServerRunner

from fedgram.config.job import JobConfig
from fedgram.errors import UpdateRejected
from fedgram.flare import wire
from fedgram.methods import method_of
from fedgram.records import WIRE_DTYPE, GlobalState, ModelSpec
from fedgram.training.masked.shapes import shapes_of

METRIC_EVENT = f"fed.{ANALYTIC_EVENT_TYPE}"
_REFUSED = "fedgram_refused"  # header of a reply that the server's own process put in the place of a site's
_KNOWN_CODES = tuple(value for name, value in vars(ReturnCode).items() if name.isupper())
_SLACK = 4 * 2**20
_BASE_MAGNITUDES = 2**26  # bytes: m of the base in round 0, before the server knows any layer


def reply_limit(job: JobConfig, spec: ModelSpec | None = None, *, concepts: int = 0, shared: int = 0) -> int:
    """Bytes that a site may send in answer to one task: twice the tensors of the contract, and 4 MiB.

    An update is ΔB (d_out, r) in bf16 and m (d_out,) in float32 a layer, what the method sends besides, and what
    groups share, in bf16; every reply has one Gram matrix over at most all anchors, float32. The rest is names,
    headers and chunks that were sent again.

    Args:
        spec: of the shared transformer; without it the reply has a Gram matrix only (round 0, evaluation).
        concepts: of which a site may send prototypes, float32 over at most all anchors.
        shared: numbers that a site sends within its groups, at most.
    """
    magnitude = 4 * job.adapter.shares_magnitude
    layers = spec.shapes.values() if spec else ()
    update = sum(d_out * (rank * WIRE_DTYPE.itemsize + magnitude) for d_out, rank, _ in layers)
    update += sum(4 * math.prod(shape) for shape in method_of(job).sends(spec).values()) if spec else 0
    update += shared * WIRE_DTYPE.itemsize
    update += _BASE_MAGNITUDES if magnitude and not spec else 0
    anchors = job.anchors.slots + (job.heldout.slots if job.heldout else 0)
    return 2 * (update + 4 * anchors**2 + 4 * concepts * job.anchors.slots) + _SLACK


def masked_limit(job: JobConfig, state: GlobalState | None, sites: int) -> int:
    """Bytes that a site may send in answer to one phase of a masked sum: twice its values, and 4 MiB.

    A kilobyte for every other site is more than twice what its shares take; newcomers introduce themselves.
    """
    values = sum(8 * math.prod(shape) for shape in shapes_of(job, state).values())
    return max(2 * values + 1024 * sites + _SLACK, reply_limit(job))


def check_sections(payload: Any, source: str | None) -> None:
    """Walk over the sections of a serialised message (``nvflare/fuel/utils/fobs/lobs.py``) without decoding any.

    FLARE follows a section that refers to data elsewhere: it fetches from whichever process the section names, as
    often as it is told to, also from within what it has fetched; and it writes FILE sections to disk for ever.

    Args:
        source: the process that sent the message, when it may refer once to tensors of its own; else None.

    Raises:
        UpdateRejected: anything but plain data, and that one reference.
    """
    references = 0
    for marker, dot, body in _sections(payload):
        if marker == lobs.MARKER_DATUM_FILE:
            raise UpdateRejected("a file in a message", expected="tensors and plain values")
        if dot == 0:
            continue
        references += 1
        if dot != dots.TENSOR_DOWNLOAD or source is None or references > 1:
            raise UpdateRejected(f"reference {references} to data of kind {dot}", expected="one, to tensors")
        if json.loads(body()[lobs.DATUM_ID_LEN :])["fqcn"] != source:
            raise UpdateRejected("tensors of another process", expected="the sender's own")


def _sections(payload: Any) -> Iterator[tuple[int, int, Any]]:
    buffer = BufferList(payload if isinstance(payload, list) else [payload])
    start, size = 0, buffer.get_size()
    while start < size:
        head = start + lobs.HEADER_LEN
        if head > size:
            raise UpdateRejected("a message that breaks off")
        marker, dot, length = lobs.HEADER_STRUCT.unpack(buffer.read_bytes(start, head))
        start = head + length
        if start > size:
            raise UpdateRejected("a message that breaks off")
        yield marker, dot, lambda head=head, end=start: buffer.read_bytes(head, end)


def check_submission(site: str, reply: Any) -> Shareable:
    """Check a site's answer to a task: nothing in it may make FLARE's runner stumble.

    Raises:
        Exception: of any kind, when it has not the form that FLARE expects.
    """
    if not isinstance(reply, Shareable):
        raise UpdateRejected(type(reply).__name__, expected="a Shareable")
    _check_sender(site, reply.get_peer_context())
    for value in (reply.get_header(FLContextKey.TASK_NAME), reply.get_cookie(FLContextKey.TASK_ID)):
        if not isinstance(value, str):
            raise UpdateRejected("task", expected="its name and its id")
    headers = reply[ReservedHeaderKey.HEADERS]
    headers.pop(_REFUSED, None)
    kind, code = headers.pop(wire.ERROR_HEADER, None), reply.get_return_code()
    if isinstance(kind, str) and kind.isidentifier() and len(kind) <= 64:
        headers[wire.ERROR_HEADER] = kind
    if code == ReturnCode.OK:
        FLModelUtils.from_shareable(reply)
    elif code in ServerRunner.ABORT_RETURN_CODES:  # FLARE ends the job for all when one site says so
        headers[wire.ERROR_HEADER] = code
        reply.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    elif code not in _KNOWN_CODES:
        reply.set_return_code(ReturnCode.EXECUTION_EXCEPTION)
    return reply


def check_event(site: str, event: Any, metrics: Collection[str]) -> None:
    """Check a live metric of a site: a number under a name of the job, under the site's own name.

    FLARE would fire whatever event a site names in the server's process, the one that ends the job included.

    Raises:
        Exception: of any kind, when it is anything else.
    """
    kind = event.get_header(FedEventHeader.EVENT_TYPE)
    if kind != METRIC_EVENT:
        raise UpdateRejected(f"event {str(kind)[:64]!r}", expected=METRIC_EVENT)
    if event.get_peer_prop(ReservedKey.IDENTITY_NAME, None) != site:
        raise UpdateRejected("a metric of another site")
    metric = AnalyticsData.from_dxo(from_shareable(event))
    if metric is None or metric.data_type is not AnalyticsDataType.SCALAR or metric.tag not in metrics:
        raise UpdateRejected("a metric", expected="a number under one of the names in the job")


def _check_sender(site: str, peer: Any) -> None:
    if not isinstance(peer, FLContext) or peer.get_identity_name() != site:
        raise UpdateRejected("sender", expected=site)


def refusal(site: str, job_id: str, task: tuple[str, str], reason: str) -> Shareable:
    """Make the error reply that takes the place of a reply of a site that cannot be used.

    Args:
        task: its name and id.
    """
    peer = FLContext()
    peer.set_public_props({ReservedKey.IDENTITY_NAME: site, ReservedKey.RUN_NUM: job_id})
    reply = make_reply(ReturnCode.EXECUTION_EXCEPTION, {_REFUSED: reason, FLContextKey.TASK_NAME: task[0]})
    reply.add_cookie(FLContextKey.TASK_ID, task[1])
    reply.set_peer_context(peer)
    return reply


def reason_of(site: str, reply: Shareable) -> str:
    """The reason why a reply with an error counts for nothing, in words for the report."""
    refused = reply.get_header(_REFUSED)
    kind = reply.get_header(wire.ERROR_HEADER, reply.get_return_code())
    return str(refused) if refused else f"{site}: answered with {kind}; its own log says why"
