"""The site's last gate: what the contract lists passes unchanged, anything else keeps the whole reply there."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fedgram.config.site import Share
from fedgram.errors import UpdateRejected
from fedgram.flare import wire
from fedgram.flare.privacy import OnlyTheContract
from fedgram.training import rounds
from nvflare.apis.fl_constant import FLContextKey, ReservedKey, ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import Shareable, make_reply
from nvflare.apis.workspace import Workspace
from nvflare.app_common.abstract.fl_model import FLModel
from nvflare.app_common.utils.fl_model_utils import FLModelUtils
from toy import Toy, write_site_file

Pass = Callable[[Shareable], Shareable]


@pytest.fixture
def context(toy: Toy, tmp_path: Path) -> FLContext:
    """Of the site red, with its own file in place."""
    for folder in ("local", "startup"):
        (tmp_path / folder).mkdir()
    write_site_file(tmp_path / "local/fedgram.toml", toy.sites["red"])
    context = FLContext()
    context.set_prop(FLContextKey.WORKSPACE_OBJECT, Workspace(str(tmp_path)), private=True)
    context.set_prop(ReservedKey.IDENTITY_NAME, "red", private=False)
    return context


@pytest.fixture
def passed(context: FLContext) -> Pass:
    return lambda shareable: OnlyTheContract().process(shareable, context)


@pytest.fixture(scope="module")
def introduction(toy: Toy) -> FLModel:
    return wire.encode_reply(rounds.introduce(toy.open("red")))


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


def test_what_a_baseline_sends_stays_unless_the_sites_own_file_allows_it(
    introduction: FLModel, context: FLContext, toy: Toy, tmp_path: Path
):
    model = FLModel(params_type=introduction.params_type, params={"extra/public": torch.zeros(4, 8)}, meta={})
    with pytest.raises(UpdateRejected, match="stays here"):
        OnlyTheContract().process(FLModelUtils.to_shareable(model), context)
    allowing = dataclasses.replace(toy.sites["red"], methods=("geo", "creamfl"))
    write_site_file(tmp_path / "local/fedgram.toml", allowing)
    sent = FLModelUtils.from_shareable(OnlyTheContract().process(FLModelUtils.to_shareable(model), context))
    assert sent.params.keys() == {"extra/public"}


@pytest.mark.parametrize(
    ("name", "share", "other"),
    [("shared/adapter/linear.weight", "adapter", "concepts"), ("prototypes/rye", "concepts", "adapter")],
)
def test_what_is_shared_stays_unless_the_sites_own_file_shares_it(
    introduction: FLModel, context: FLContext, toy: Toy, tmp_path: Path, name: str, share: Share, other: Share
):
    params = {name: torch.zeros(4, 8)}
    write_site_file(tmp_path / "local/fedgram.toml", dataclasses.replace(toy.sites["red"], share=(other,)))
    model = FLModel(params_type=introduction.params_type, params=params, meta={})
    with pytest.raises(UpdateRejected, match="stays here"):
        OnlyTheContract().process(FLModelUtils.to_shareable(model), context)
    write_site_file(tmp_path / "local/fedgram.toml", dataclasses.replace(toy.sites["red"], share=(share,)))
    sent = FLModelUtils.from_shareable(OnlyTheContract().process(FLModelUtils.to_shareable(model), context))
    assert sent.params.keys() == params.keys()


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
