"""The site's last gate before a masked sum: each phase's own answer passes, anything else stays at the site."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.flare import wire
from fedgram.flare.privacy import OnlyTheContract, TheTask
from fedgram.flare.shield.vetting import masked_limit
from fedgram.training.masked.messages import CONFIRM, KEYS, MASKED, PHASES, REVEAL, SHARES, SumCall
from fedgram.training.server import ServerState
from masked_toy import four, round_one
from nvflare.apis.fl_constant import FLContextKey, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from some_records import assert_same
from toy import Toy, write_site_file

Heard = tuple[ServerState, dict[str, tuple[SumCall, Any]]]
Pass = Callable[..., Shareable]


@pytest.fixture(scope="module")
def heard(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    return round_one(four(toy), tmp_path_factory.mktemp("heard"))


@pytest.fixture
def passed(toy: Toy, tmp_path: Path) -> Pass:
    """Hands an answer of red's, whose file asks for masks, to the gate, after the task that it answers."""
    for folder in ("local", "startup"):
        (tmp_path / folder).mkdir()
    config = replace(four(toy).sites["red"], require=("masked",))
    write_site_file(tmp_path / "local/fedgram.toml", config)
    context = FLContext()
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, Workspace(str(tmp_path)), private=True)
    context.set_prop(ReservedKey.IDENTITY_NAME, "red", private=False)

    def passed(name: str, task: FLModel, reply: FLModel) -> Shareable:
        context.set_prop(FLContextKey.TASK_NAME, name, private=True, sticky=False)
        TheTask().process(FLModelUtils.to_shareable(task), context)
        return OnlyTheContract().process(FLModelUtils.to_shareable(reply), context)

    return passed


def asked(toy: Toy, heard: Heard, phase: str) -> FLModel:
    state = heard[0].state if phase == MASKED else None
    return wire.encode_call(four(toy).job, heard[1][phase][0], state)


@pytest.mark.parametrize("phase", PHASES)
def test_the_answer_of_each_phase_passes_as_it_is(toy: Toy, heard: Heard, passed: Pass, phase: str):
    reply = wire.encode_reply(heard[1][phase][1])
    through = FLModelUtils.from_shareable(passed(phase, asked(toy, heard, phase), reply))
    assert_same(wire.decode_reply(type(heard[1][phase][1]), "red", through), heard[1][phase][1])
    sent = sum(tensor.numel() * tensor.element_size() for tensor in (reply.params or {}).values())
    assert 2 * sent < masked_limit(four(toy).job, heard[0].state, 4)


def test_a_call_arrives_as_it_was_sent(toy: Toy, heard: Heard):
    task = asked(toy, heard, MASKED)
    assert_same(wire.decode_call(task), heard[1][MASKED][0])
    assert_same(wire.decode_masked_state(task), heard[0].state)
    with pytest.raises(ConfigError, match="task: call"):
        wire.decode_call(wire.encode_task(four(toy).job))


@pytest.mark.parametrize(
    ("phase", "change", "said"),
    [
        (KEYS, {"card": "Zaphod Beeblebrox"}, "keys that are none"),
        (KEYS, {"certificate": "Zaphod Beeblebrox"}, "a text in the place of a certificate"),
        (KEYS, {"signature": "Zaphod"}, "bytes that are none"),
        (KEYS, {"signature": "00" * 2000}, "a signature that is none"),
        (KEYS, {"round": 2}, "an answer to another sum"),
        (SHARES, {"shares": {"zaphod": "00"}}, "secrets for others than take part"),
        (SHARES, {"seed_print": "00"}, "bytes that are none"),
        (SHARES, {"context": "00"}, "an answer to another sum"),
        (MASKED, {"sums": {"more": torch.zeros(3, dtype=torch.int64)}}, "masked values of other names"),
        (MASKED, {"restarts": -1}, "-1 restarts"),
        (MASKED, {"mark": "x"}, "bytes that are none"),
        (CONFIRM, {"signature": "x"}, "bytes that are none"),
        (REVEAL, {"keys": {"blue": "00" * 32}}, "secrets for others than take part"),
        (REVEAL, {"seeds": {"blue": "00" * 32}}, "bytes that are none"),
    ],
)
def test_whatever_else_stays(toy: Toy, heard: Heard, passed: Pass, phase: str, change: dict[str, Any], said: str):
    reply = replace(heard[1][phase][1], **change)
    with pytest.raises(UpdateRejected, match=said):
        passed(phase, asked(toy, heard, phase), wire.encode_reply(reply))


def test_float_values_stay(toy: Toy, heard: Heard, passed: Pass):
    reply = heard[1][MASKED][1]
    clear = replace(reply, sums={label: value.float() for label, value in reply.sums.items()})
    with pytest.raises(UpdateRejected, match="masked values of other names, shapes or types"):
        passed(MASKED, asked(toy, heard, MASKED), wire.encode_reply(clear))


def test_answers_of_another_mode_stay(toy: Toy, heard: Heard, passed: Pass):
    masked, plain = four(toy).job, four(toy, masked=False).job
    reply = wire.encode_reply(heard[1][KEYS][1])
    with pytest.raises(UpdateRejected, match=r"red: require: a reply to a job that is not masked stays here"):
        passed(KEYS, wire.encode_call(plain, heard[1][KEYS][0]), reply)
    with pytest.raises(UpdateRejected, match=r"task 'train' stays here\n  expected: one of the job's own mode"):
        passed(wire.TRAIN, wire.encode_task(masked, "run", heard[0].state), reply)
