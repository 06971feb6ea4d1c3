"""How long a site's job process waits for what it has asked the server for."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from fedgram.flare import wire
from fedgram.flare.executors import SiteExecutor
from nvflare.apis.event_type import EventType
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey, ReturnCode
from nvflare.fuel.f3.cellnet.fqcn import FQCN
from nvflare.fuel.f3.message import Message
from nvflare.fuel.utils.fobs import FOBSContextKey
from nvflare.private.fed.client.communicator import Communicator


class FakeCell:
    """What a site's job process uses of FLARE's Cell: it notes for how long it is to wait."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self.fobs: dict[str, Any] = {}

    def update_fobs_context(self, props: dict[str, Any]) -> None:
        self.fobs |= props

    def send_request(self, *, request: Message, timeout: float, **_: object) -> Message:
        request.set_header(MessageHeaderKey.PAYLOAD_LEN, 0)
        self.waits.append(timeout)
        return Message({MessageHeaderKey.RETURN_CODE: ReturnCode.TIMEOUT})


@pytest.mark.parametrize(
    ("of_the_job", "of_flare", "expected"),
    [(None, 300.0, [30.0, 300.0]), (900.0, 300.0, [30.0, 900.0]), (None, 20.0, [20.0, 20.0])],
)
def test_a_lost_request_is_made_again_soon_while_a_submission_has_its_time(
    of_the_job: float | None, of_flare: float, expected: list[float]
):
    cell, fl_ctx = FakeCell(), FLContext()
    communicator = Communicator({"client_name": "red"}, cell=cell, timeout=of_flare)
    runner = SimpleNamespace(submit_task_result_timeout=of_the_job)
    engine = SimpleNamespace(client=SimpleNamespace(communicator=communicator), get_cell=lambda: cell)
    fl_ctx.set_prop(ReservedKey.ENGINE, engine, private=True)
    fl_ctx.set_prop(ReservedKey.RUN_NUM, "job")
    fl_ctx.set_prop(FLContextKey.RUNNER, runner, private=True)
    fl_ctx.set_prop(FLContextKey.CLIENT_CONFIG, {}, private=True)
    SiteExecutor("image").handle_event(EventType.START_RUN, fl_ctx)
    communicator.pull_task("fedgram", "token", FQCN.ROOT_SERVER, fl_ctx)
    fl_ctx.set_prop(FLContextKey.SSID, "", sticky=False)
    wait = runner.submit_task_result_timeout
    communicator.submit_update("fedgram", "token", "", fl_ctx, "red", Shareable(), "train", timeout=wait)
    assert cell.waits == expected
    assert cell.fobs == {FOBSContextKey.DOWNLOAD_REQ_TIMEOUT: wire.LOST_SECONDS}
