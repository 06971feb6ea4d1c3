"""The phases of a masked sum as tasks of FLARE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from nvflare.app_common.abstract.fl_model import FLModel

from fedgram.config.job import JobConfig
from fedgram.flare import wire
from fedgram.flare.progress import Progress
from fedgram.flare.shield import vetting
from fedgram.records import GlobalState
from fedgram.training.masked.contracts import KINDS
from fedgram.training.masked.gathering import Ask
from fedgram.training.masked.messages import MASKED, MaskedUpdate, SumCall

Receive = Callable[[str, FLModel], None]
Refuse = Callable[[str, str], None]


@dataclass(frozen=True, kw_only=True)
class Transport:
    """The part of a controller that a masked sum needs.

    Attributes:
        send: a task to some sites, with what is done with an answer and with a refusal; waits for nobody.
        wait: until all have answered a task, or time is up.
        allow: so many bytes of tensors from each site meanwhile.
    """

    send: Callable[[str, FLModel, list[str], Receive, Refuse], None]
    wait: Callable[[str], None]
    allow: Callable[[int], AbstractContextManager[None]]


def asking(
    transport: Transport,
    job: JobConfig,
    progress: Progress,
    state: GlobalState | None = None,
    greet: Callable[[], object] = lambda: None,
) -> Ask:
    """A way to ask sites for their parts in a masked sum.

    Args:
        state: that its round begins with.
        greet: called while the sites train.
    """

    def ask(phase: str, calls: Mapping[str, SumCall], receive: Callable[[Any], None], refuse: Refuse) -> None:
        def answered(site: str, model: FLModel) -> None:
            reply = wire.decode_reply(KINDS[phase], site, model)
            receive(reply)
            if isinstance(reply, MaskedUpdate):
                progress.masked(reply)

        def refused(site: str, reason: str) -> None:
            refuse(site, reason)
            progress.rejected(site, reason)

        with transport.allow(vetting.masked_limit(job, state, len(calls))):
            for call, names in _alike(calls):
                task = wire.encode_call(job, call, state if phase == MASKED else None)
                transport.send(phase, task, names, answered, refused)
            if phase == MASKED:
                greet()
            transport.wait(phase)

    return ask


def _alike(calls: Mapping[str, SumCall]) -> list[tuple[SumCall, list[str]]]:
    """The calls that differ, each with the sites that it goes to."""
    found: dict[int, tuple[SumCall, list[str]]] = {}
    for site, call in calls.items():
        found.setdefault(id(call), (call, []))[1].append(site)
    return [*found.values()]
