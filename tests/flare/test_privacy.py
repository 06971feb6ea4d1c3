"""The site's last gate: what the contract lists passes unchanged, anything else keeps the whole reply there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import Share
from fedgram.errors import UpdateRejected
from fedgram.flare import wire
from fedgram.flare.privacy import OnlyTheContract, TheTask
from fedgram.training.server import agree
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from torch import Tensor
from toy import Toy, write_site_file

Pass = Callable[..., Shareable]
Messages = dict[str, tuple[FLModel, FLModel]]  # task and reply, by name of the task
SHARING = ("head", "concepts")


@pytest.fixture
def context(toy: Toy, tmp_path: Path) -> FLContext:
    """Of the site red, with its own file in place."""
    for folder in ("local", "startup"):
        (tmp_path / folder).mkdir()
    write_site_file(tmp_path / "local/fedgram.toml", dataclasses.replace(toy.sites["red"], share=SHARING))
    context = FLContext()
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, Workspace(str(tmp_path)), private=True)
    context.set_prop(ReservedKey.IDENTITY_NAME, "red", private=False)
    return context


@pytest.fixture
def passed(context: FLContext, messages: Messages) -> Pass:
    """Hands a reply to the gate, after the task that it answers."""

    def passed(reply: FLModel | Shareable, task: str = wire.INTRODUCE) -> Shareable:
        context.set_prop(FLContextKey.TASK_NAME, task, private=True, sticky=False)
        asked = FLModelUtils.to_shareable(messages[task][0])
        assert TheTask().process(asked, context) is asked
        sent = reply if isinstance(reply, Shareable) else FLModelUtils.to_shareable(reply)
        return OnlyTheContract().process(sent, context)

    return passed


@pytest.fixture(scope="module")
def messages(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Messages:
    """Each task of a run with red's reply; red and green share their heads and concepts."""
    shared = {name: dataclasses.replace(toy.sites[name], share=SHARING) for name in ("red", "green")}
    run = dataclasses.replace(toy, sites={**toy.sites, **shared})
    sessions = run.sessions(tmp_path_factory.mktemp("sites"))
    introductions = [session.introduce() for session in sessions.values()]
    state, _ = agree(introductions, run.job)
    red = sessions["red"]
    asked = wire.encode_task(run.job, state.run, state.state)
    return {
        wire.INTRODUCE: (wire.encode_task(run.job), wire.encode_reply(introductions[0])),
        wire.TRAIN: (asked, wire.encode_reply(red.train(state.run, state.state))),
        wire.EVALUATE: (asked, wire.encode_reply(red.evaluate(state.run, state.state))),
    }


@pytest.fixture(scope="module")
def introduction(messages: Messages) -> FLModel:
    return messages[wire.INTRODUCE][1]


def changed(model: FLModel, **values: object) -> FLModel:
    """A reply with other values by name (``/`` written as ``__``), without those that are None."""
    named = {name.replace("__", "/"): value for name, value in values.items()}
    parts = []
    for part, kind in ((model.params, Tensor), (model.meta, object)):
        own = {k: v for k, v in named.items() if isinstance(v, Tensor) == (kind is Tensor) and v is not None}
        parts.append({k: v for k, v in {**(part or {}), **own}.items() if named.get(k, 0) is not None})
    return FLModel(params_type=model.params_type, params=parts[0], meta=parts[1])


def test_a_listed_reply_passes_unchanged_and_nothing_beside_it(introduction: FLModel, passed: Pass):
    shareable = FLModelUtils.to_shareable(introduction)
    shareable["notes"] = "the name of patient 7"
    shareable.set_header("notes", "the name of patient 7")
    sent = passed(shareable)
    assert "patient 7" not in str(sent)
    after = FLModelUtils.from_shareable(sent)
    assert after.meta == introduction.meta
    assert after.params.keys() == introduction.params.keys()
    assert all(torch.equal(after.params[name], value) for name, value in introduction.params.items())


def _embeddings(model: FLModel) -> None:
    model.params["embeddings"] = torch.zeros(4, 8)


def _note(model: FLModel) -> None:
    model.meta["note"] = "patient 7"


def _longer_name(model: FLModel) -> None:
    model.params["gram_of_patients"] = torch.zeros(4, 4)


def _longer_note(model: FLModel) -> None:
    model.meta["samples_of_patients"] = {"patient 7": 1}


def _parameter(model: FLModel) -> None:
    model.params["gram"] = torch.nn.Parameter(model.params["gram"])


def _view(model: FLModel) -> None:
    model.params["gram"] = model.params["gram"].T[1:]


def _in_the_spec(model: FLModel) -> None:
    model.meta["spec/patients"] = 7


@pytest.mark.parametrize(
    ("add", "reason"),
    [
        (_embeddings, r"\['embeddings'\] stays here"),
        (_note, r"\['note'\] stays here"),
        (_longer_name, r"\['gram_of_patients'\] stays here"),
        (_longer_note, r"\['samples_of_patients'\] stays here"),
        (_in_the_spec, r"\['spec/patients'\] stays here"),
        (_parameter, "plain tensors stays here"),
        (_view, "plain tensors stays here"),
    ],
)
def test_anything_else_stays(introduction: FLModel, passed: Pass, add: Callable[[FLModel], None], reason: str):
    """One thing of what is sent is enough to keep the reply."""
    params = {**introduction.params, "m/layer": torch.ones(3)}
    model = FLModel(params_type=introduction.params_type, params=params, meta=dict(introduction.meta))
    add(model)
    with pytest.raises(UpdateRejected, match=reason):
        passed(FLModelUtils.to_shareable(model))


@pytest.mark.parametrize("task", [wire.INTRODUCE, wire.TRAIN, wire.EVALUATE])
def test_every_reply_of_a_run_passes_as_it_is(messages: Messages, passed: Pass, task: str):
    reply = messages[task][1]
    after = FLModelUtils.from_shareable(passed(reply, task))
    assert after.params.keys() == reply.params.keys()
    assert {k: v for k, v in after.meta.items() if k != "current_round"} == reply.meta


def test_an_evaluation_passes_at_a_site_that_shares_nothing(
    messages: Messages, passed: Pass, toy: Toy, tmp_path: Path
):
    write_site_file(tmp_path / "local/fedgram.toml", toy.sites["red"])
    reply = messages[wire.EVALUATE][1]
    nothing = changed(reply, **{n.replace("/", "__"): None for n in reply.params if n.startswith("prototypes/")})
    nothing.params["token_gram"] = torch.zeros(0, 0)
    assert passed(nothing, wire.EVALUATE)
    with pytest.raises(UpdateRejected, match=r"\['token_gram'\] stays here"):
        passed(changed(nothing, token_gram=reply.params["token_gram"]), wire.EVALUATE)


TEXT = "the name of patient 7"
SMUGGLED = {
    # what is listed by a beginning, with anything behind it
    "a layer of no model": (wire.TRAIN, {f"delta_B__{TEXT}": torch.zeros(1000, 1000)}, "layer names differ"),
    "m of a layer of no model": (wire.TRAIN, {f"m__{TEXT}": torch.zeros(1000)}, "layer names differ"),
    "a tensor of no head": (wire.TRAIN, {f"shared__head__{TEXT}": torch.zeros(9)}, "of no group"),
    "a part that is not shared": (wire.TRAIN, {"shared__adapter__W": torch.zeros(9)}, "of no group"),
    "a head of another shape": (wire.TRAIN, {"shared__head__linear.weight": torch.zeros(99, 99)}, "of no group"),
    "another shape": (wire.TRAIN, {"delta_B__LAYER": torch.zeros(32, 400)}, "delta|B of "),
    "another type": (wire.TRAIN, {"delta_B__LAYER": torch.zeros(32, 4, dtype=torch.float64)}, "B of "),
    "no number": (wire.TRAIN, {"delta_B__LAYER": torch.full((32, 4), torch.nan).bfloat16()}, "not finite"),
    "an unknown metric": (wire.TRAIN, {"metrics": {TEXT: 1.0}}, "metrics that the job does not name"),
    "a text for a metric": (wire.TRAIN, {"metrics": {"loss": TEXT}}, "metrics: dict of str"),
    "an infinite metric": (wire.EVALUATE, {"metrics": {"accuracy": float("inf")}}, "not a finite number"),
    "a text for a count": (wire.TRAIN, {"samples": TEXT}, "samples: str"),
    "another round": (wire.TRAIN, {"round": 1952}, "round 1952"),
    "another Gram": (wire.TRAIN, {"gram": torch.eye(40)}, r"Gram of shape"),
    "more anchors than there are": (
        wire.TRAIN,
        {"gram": torch.eye(40), "slots": list(range(40))},
        "anchor slots out of range",
    ),
    "no Gram": (wire.INTRODUCE, {"gram": torch.full((12, 12), 7.0)}, "cosines over the anchors"),
    "a base of layers of no model": (wire.INTRODUCE, {f"m__{TEXT}": torch.zeros(1000)}, "layer names differ"),
    "another base": (wire.INTRODUCE, {"spec__backbone": TEXT}, "text in the place of a name"),
    "a modality": (wire.INTRODUCE, {"modality": TEXT}, "text in the place of a name"),
    "m of the base": (wire.INTRODUCE, {f"m__{TEXT}": torch.zeros(1000)}, "layer names differ"),
    "a layer": (wire.INTRODUCE, {"spec__shapes": {TEXT: [4, 4, 4]}}, "text in the place of a name"),
    "a version": (wire.INTRODUCE, {"version": TEXT}, "fedgram 'the name"),
    "a group": (wire.INTRODUCE, {"groups": {"head": TEXT}}, "groups that are none"),
    "a concept": (wire.EVALUATE, {"prototypes__two\nlines": torch.zeros(12)}, "the name of concept"),
    "a sample for a prototype": (wire.EVALUATE, {"prototypes__oak": torch.full((12,), 9.0)}, "no cosines"),
    "a prototype of another size": (wire.EVALUATE, {"prototypes__oak": torch.zeros(999)}, "prototype of 'oak'"),
    "a Gram of tokens": (wire.EVALUATE, {"token_gram": torch.eye(40)}, "Gram of shape"),
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_what_the_task_does_not_call_for_stays(messages: Messages, passed: Pass, what: str):
    """All of it passes by its name alone."""
    task, values, reason = SMUGGLED[what]
    reply = messages[task][1]
    layer = min(name for name in messages[wire.TRAIN][1].params if name.startswith("delta_B/"))
    values = {name.replace("delta_B__LAYER", layer): value for name, value in values.items()}
    with pytest.raises(UpdateRejected, match=reason):
        passed(changed(reply, **values), task)


def test_nothing_leaves_when_the_gate_does_not_know_the_task(messages: Messages, context: FLContext, passed: Pass):
    for model in (messages[wire.INTRODUCE][1], messages[wire.TRAIN][1]):
        with pytest.raises(UpdateRejected, match="has not seen"):
            OnlyTheContract().process(FLModelUtils.to_shareable(model), context)
    context.set_prop(FLContextKey.TASK_NAME, "another", private=True, sticky=False)
    TheTask().process(FLModelUtils.to_shareable(messages[wire.TRAIN][0]), context)
    with pytest.raises(UpdateRejected, match="task 'another' stays here"):
        OnlyTheContract().process(FLModelUtils.to_shareable(messages[wire.TRAIN][1]), context)


def test_what_a_baseline_sends_stays_unless_the_sites_own_file_allows_it(
    messages: Messages, passed: Pass, toy: Toy, tmp_path: Path
):
    model = changed(messages[wire.TRAIN][1], extra__public=torch.zeros(4, 8))
    with pytest.raises(UpdateRejected, match=r"\['extra/public'\] stays here"):
        passed(model, wire.TRAIN)
    allowing = dataclasses.replace(toy.sites["red"], methods=("geo", "creamfl"), share=SHARING)
    write_site_file(tmp_path / "local/fedgram.toml", allowing)
    assert "extra/public" in FLModelUtils.from_shareable(passed(model, wire.TRAIN)).params
    for name, value, reason in [
        (f"extra__{TEXT}", torch.zeros(4), "text in the place of a name"),
        ("extra__public", torch.zeros(4).double(), "extra of 'public'"),
    ]:
        with pytest.raises(UpdateRejected, match=reason):
            passed(changed(messages[wire.TRAIN][1], **{name: value}), wire.TRAIN)


@pytest.mark.parametrize(
    ("task", "prefix", "share", "other"),
    [(wire.TRAIN, "shared/head/", "head", "concepts"), (wire.EVALUATE, "prototypes/", "concepts", "head")],
)
def test_what_is_shared_stays_unless_the_sites_own_file_shares_it(
    messages: Messages, passed: Pass, toy: Toy, tmp_path: Path, task: str, prefix: str, share: Share, other: Share
):
    model = messages[task][1]
    own = tmp_path / "local/fedgram.toml"
    write_site_file(own, dataclasses.replace(toy.sites["red"], share=(other,)))
    with pytest.raises(UpdateRejected, match="stays here"):
        passed(model, task)
    write_site_file(own, dataclasses.replace(toy.sites["red"], share=(share,)))
    sent = FLModelUtils.from_shareable(passed(model, task)).params
    assert any(name.startswith(prefix) for name in sent)


@pytest.mark.parametrize("code", [ReturnCode.EXECUTION_EXCEPTION, ReturnCode.TASK_ABORTED])
def test_of_an_error_only_its_kind_leaves(passed: Pass, code: str):
    reply = make_reply(code)
    reply.set_header(wire.ERROR_HEADER, "DataError")
    reply["text"] = "the name of patient 7"
    sent = passed(reply)
    assert (sent.get_return_code(), sent.get_header(wire.ERROR_HEADER)) == (reply.get_return_code(), "DataError")
    assert "patient 7" not in str(sent)
    reply.set_header(wire.ERROR_HEADER, "the name of patient 7")
    assert passed(reply).get_header(wire.ERROR_HEADER) is None


@pytest.fixture
def private(context: FLContext, toy: Toy, tmp_path: Path) -> None:
    """The site's own file promises differential privacy."""
    config = dataclasses.replace(toy.sites["red"], share=("head",), privacy=PrivacyConfig(epsilon=1.0, delta=1e-3))
    write_site_file(tmp_path / "local/fedgram.toml", config)


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize("wrong", [{"samples": 80}, {"weight": 1.5}, {"metrics": {"accuracy": 0.9}}])
def test_of_a_private_site_no_count_and_no_metric_passes(passed: Pass, messages: Messages, wrong: dict):
    reply = messages[wire.TRAIN][1]
    honest = {"samples": 1, "weight": 1.0, "metrics": {"cka": 0.9}}
    assert passed(changed(reply, **honest), wire.TRAIN)
    with pytest.raises(UpdateRejected, match="private samples stays here"):
        passed(changed(reply, **{**honest, **wrong}), wire.TRAIN)
