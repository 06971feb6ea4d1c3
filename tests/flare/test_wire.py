"""What travels: through FLARE's own serialiser and back, in exactly the announced number of bytes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import some_records
import torch
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.errors import ConfigError, UpdateRejected
from fedgram.flare import wire
from fedgram.records import WIRE_DTYPE, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.training import rounds
from fedgram.training.server import agree
from hypothesis import given, settings
from hypothesis import strategies as st
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from nvflare.app_opt.pt.decomposers import TensorDecomposer
from nvflare.fuel.utils import fobs
from some_records import assert_same
from toy import Toy

fobs.register(TensorDecomposer)


def travelled(model: FLModel) -> FLModel:
    """As it is after FLARE has packed and unpacked it."""
    return FLModelUtils.from_shareable(fobs.loads(fobs.dumps(FLModelUtils.to_shareable(model))))


@pytest.fixture(scope="module")
def records(toy: Toy) -> dict:
    site = toy.open("blue")
    introduction = rounds.introduce(site)
    server = agree([introduction, rounds.introduce(toy.open("red"))], toy.job)[0]
    update = rounds.local_round(site, server.state)
    evaluation = rounds.evaluation(site)
    return {"introduction": introduction, "server": server, "update": update, "evaluation": evaluation}


def test_a_task_round_trip(toy: Toy, records: dict):
    server = records["server"]
    task = travelled(wire.encode_task(toy.job, server.run, server.state))
    run, state = wire.decode_state(task)
    assert run == server.run
    assert_same(server.state, state)
    for message in (task, travelled(wire.encode_task(toy.job))):
        assert from_dict(JobConfig, message.meta["job"], "test") == toy.job


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.meta.pop("run"), "run: NoneType"),
        (lambda m: m.meta.update(run=7), "run: int"),
        (lambda m: m.meta.pop("backbone"), "backbone: missing"),
        (lambda m: m.meta.update(anchors=m.meta.pop("anchors_sha256")), r"unknown parts \['anchors'\]"),
        (lambda m: m.params.update({"direction/q": torch.zeros(1)}), r"unknown parts \['direction/q'\]"),
    ],
)
def test_a_task_of_another_version_is_refused(toy: Toy, records: dict, change, reason: str):
    model = wire.encode_task(toy.job, "run", records["server"].state)
    change(model)
    with pytest.raises(ConfigError, match=rf"(?s)task: {reason}.*remedy: run the same version"):
        wire.decode_state(model)


@pytest.mark.parametrize("kind", ["introduction", "update", "evaluation"])
def test_a_reply_round_trip(records: dict, kind: str):
    reply = records[kind]
    assert_same(reply, wire.decode_reply(type(reply), "blue", travelled(wire.encode_reply(reply))))


@settings(max_examples=10)
@given(st.sampled_from((SiteIntroduction, SiteUpdate, SiteEvaluation)).flatmap(some_records.records))
def test_any_reply_survives_flare(reply: Any):
    if isinstance(reply, SiteUpdate):
        reply = dataclasses.replace(reply, round=abs(reply.round))  # FLARE counts rounds as well
    assert_same(reply, wire.decode_reply(type(reply), reply.site, travelled(wire.encode_reply(reply))))


def test_a_site_cannot_speak_for_another(records: dict):
    """Its name is not in the message, and one that is put there does not count."""
    model = wire.encode_reply(records["update"])
    assert "site" not in model.meta
    model.meta["site"] = "green"
    assert wire.decode_reply(SiteUpdate, "blue", model).site == "blue"


def test_what_flare_puts_beside_the_values_is_no_part_of_them(records: dict):
    """The controller adds the task's own values and the sender; a filter of FLARE's its history."""
    model = wire.encode_reply(records["update"])
    model.meta |= {"props": {"job": {}}, "client_name": "blue", "filter_history": ["Percentile"], "job_id": "1"}
    assert_same(records["update"], wire.decode_reply(SiteUpdate, "blue", model))


def test_an_update_costs_what_its_b_in_bf16_and_its_gram_cost():
    """The demo's job, as serialised by FLARE: at most 2 % on top of the tensors, names and envelope included."""
    shapes = {"attention.self.query": 384, "attention.self.key": 384, "attention.self.value": 384}
    shapes |= {"attention.output.dense": 384, "intermediate.dense": 1536, "output.dense": 384}
    names = {f"base_model.model.encoder.layer.{i}.{k}": d_out for i in range(6) for k, d_out in shapes.items()}
    update = SiteUpdate(
        site="hosp-genomics",
        round=1,
        anchors_sha256="f" * 64,
        delta_B={name: torch.randn(d_out, 16).to(WIRE_DTYPE) for name, d_out in names.items()},
        m={},
        gram=torch.eye(24),
        slots=tuple(range(24)),
        weight=4.2,
        samples=360,
        metrics={"loss": 0.5, "task_loss": 0.4, "cka": 0.9, "accuracy": 0.8, "seconds": 3.0},
    )
    promised = 2 * 16 * sum(names.values()) + 4 * 24 * 24
    sent = len(fobs.dumps(FLModelUtils.to_shareable(wire.encode_reply(update))))
    assert sent <= 1.02 * promised, (sent, promised)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.params.pop("gram"), "gram: missing"),
        (lambda m: m.params.update(gram=[[1.0]]), "gram: list"),
        (lambda m: m.params.update(raw_data=torch.zeros(3)), r"unknown parts \['raw_data'\]"),
        (lambda m: m.params.update({"delta_B/x": "text"}), "delta_B/x: str"),
        (lambda m: m.meta.update(patients=["Ada"]), r"unknown parts \['patients'\]"),
        (lambda m: m.meta.pop("weight"), "weight: missing"),
        (lambda m: m.meta.update(weight="heavy"), "weight: str"),
        (lambda m: m.meta.update(samples=True), "samples: bool"),
        (lambda m: m.meta.update(slots="0123"), "slots: str"),
        (lambda m: m.meta.update(slots=[0.5]), "slots: list of float"),
        (lambda m: setattr(m, "params", None), "gram: missing"),
        (lambda m: setattr(m, "meta", None), "round: missing"),
    ],
)
def test_a_malformed_update_is_refused_by_name(records: dict, change, reason: str):
    model = wire.encode_reply(records["update"])
    change(model)
    with pytest.raises(UpdateRejected, match=f"blue: {reason}"):
        wire.decode_reply(SiteUpdate, "blue", model)


def test_a_malformed_introduction_is_refused(records: dict):
    model = wire.encode_reply(records["introduction"])
    model.meta["spec/shapes"] = {"layer": [1, 2]}
    with pytest.raises(UpdateRejected, match="blue: spec/shapes: dict of list"):
        wire.decode_reply(SiteIntroduction, "blue", model)


def test_what_is_sent_is_plain(records: dict):
    parameter = torch.nn.Parameter(torch.randn(4, 3)).t()
    update = dataclasses.replace(records["update"], gram=parameter)
    sent = wire.encode_reply(update).params["gram"]
    assert type(sent) is torch.Tensor
    assert sent.is_contiguous()
    assert not sent.requires_grad
