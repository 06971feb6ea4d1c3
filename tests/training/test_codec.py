"""The codec of records: what is packed comes back, and nothing else does."""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from typing import Any

import pytest
import torch
from fedgram.errors import CheckpointError, UpdateRejected
from fedgram.records import GlobalState, ModelSpec, RoundRecord, SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.training.codec import is_listed, names_of, pack, unpack
from fedgram.training.server import ServerState
from hypothesis import given
from hypothesis import strategies as st
from some_records import assert_same, records

KINDS = (SiteIntroduction, SiteUpdate, SiteEvaluation, GlobalState, ModelSpec, RoundRecord, ServerState)
of_any_kind = st.sampled_from(KINDS).flatmap(records)
refused = partial(UpdateRejected, where="blue")


def introduction() -> SiteIntroduction:
    spec = ModelSpec(shapes={"q": (3, 2, 4)}, backbone="b" * 64, width=4)
    return SiteIntroduction(
        site="blue",
        version="1",
        anchors_sha256="a" * 64,
        spec=spec,
        gram=torch.eye(2),
        slots=(0, 5),
        samples=7,
        modality="text",
        groups={"head": "c" * 64},
        shared_shapes={"head/weight": (5, 4), "head/bias": (5,)},
    )


def update() -> SiteUpdate:
    return SiteUpdate(
        site="blue",
        round=1,
        anchors_sha256="a" * 64,
        delta_B={"q": torch.zeros(3, 2)},
        m={"q": torch.ones(3)},
        gram=torch.eye(2),
        slots=(0, 5),
        weight=2.5,
        samples=7,
        metrics={"loss": 0.5},
        restarts=3,
        extra={"A/q": torch.ones(2, 4)},
    )


def test_a_record_by_hand():
    tensors, facts = pack(introduction())
    assert tensors.keys() == {"gram"}
    assert facts == {
        "site": "blue",
        "version": "1",
        "anchors_sha256": "a" * 64,
        "spec/shapes": {"q": [3, 2, 4]},
        "spec/backbone": "b" * 64,
        "spec/width": 4,
        "slots": [0, 5],
        "samples": 7,
        "modality": "text",
        "groups": {"head": "c" * 64},
        "shared_shapes": {"head/weight": [5, 4], "head/bias": [5]},
        "privacy": {},
    }
    assert pack(update())[0].keys() == {"delta_B/q", "m/q", "gram", "extra/A/q"}
    assert names_of(SiteUpdate).tensors == ("delta_B/", "m/", "gram", "extra/", "shared/")


@given(of_any_kind)
def test_what_is_packed_comes_back(record: Any):
    tensors, facts = pack(record)
    assert_same(record, unpack(type(record), tensors, json.loads(json.dumps(facts)), refused))


@given(of_any_kind, st.randoms(use_true_random=False))
def test_no_order_means_anything(record: Any, random: Any):
    tensors, facts = (list(part.items()) for part in pack(record))
    random.shuffle(tensors)
    random.shuffle(facts)
    assert_same(record, unpack(type(record), dict(tensors), dict(facts), refused))


@given(of_any_kind)
def test_parts_have_the_names_that_are_announced(record: Any):
    for part, names in zip(pack(record), names_of(type(record)), strict=True):
        assert all(is_listed(name, names) for name in part)
        assert {name for name in names if not name.endswith("/")} <= part.keys()


@given(of_any_kind, st.data())
def test_two_parts_that_change_places_never_give_the_same_record(record: Any, data: st.DataObject):
    """Of the same type they give the record that says so, of other types an error."""
    packed = pack(record)
    part = data.draw(st.sampled_from([part for part in packed if part]))
    one, other = data.draw(st.tuples(*2 * [st.sampled_from(sorted(part))]))
    part[one], part[other] = part[other], part[one]
    with suppress(UpdateRejected):
        tensors, facts = pack(unpack(type(record), *packed, refused))
        assert facts == packed[1]
        assert_same(tensors, packed[0])


@pytest.mark.parametrize("name", [*pack(update())[0], *pack(update())[1], *pack(introduction())[1]])
def test_every_part_is_asked_for_and_looked_at(name: str):
    record = update() if name in {**pack(update())[0], **pack(update())[1]} else introduction()
    for wrong in (None, object(), {"x": object()}, [object()], True):
        tensors, facts = pack(record)
        (tensors if name in tensors else facts)[name] = wrong
        with pytest.raises(UpdateRejected, match=f"blue: {name}: "):
            unpack(type(record), tensors, facts, refused)
    if "/" not in name.removeprefix("spec/"):
        tensors, facts = pack(record)
        del (tensors if name in tensors else facts)[name]
        with pytest.raises(UpdateRejected, match=f"blue: {name}: missing"):
            unpack(type(record), tensors, facts, refused)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": "heavy"}, "weight: str\n  expected: float"),
        ({"samples": True}, "samples: bool\n  expected: int"),
        ({"samples": 7.0}, "samples: float\n  expected: int"),
        ({"slots": [0.5, 1]}, r"slots: list of float, int\n  expected: tuple\[int, \.\.\.\]"),
        ({"slots": [0, True]}, "slots: list of bool, int"),
        ({"metrics": {"loss": "low"}}, "metrics: dict of str\n  expected: .*Mapping"),
        ({"metrics": {1: 0.5}}, "metrics: dict of float"),
        ({"weight": 10**400}, "weight: int"),
        ({"patients": ["Ada"]}, r"unknown parts \['patients'\]\n  expected: site, round"),
        ({"gram": [[1.0]]}, r"unknown parts \['gram'\]"),
        ({3: 4}, r"unknown parts \['3'\]"),
    ],
)
def test_a_wrong_fact_is_named_with_what_was_expected(changes: dict, message: str):
    tensors, facts = pack(update())
    with pytest.raises(UpdateRejected, match=f"blue: {message}"):
        unpack(SiteUpdate, tensors, facts | changes, refused)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gram": [[1.0]]}, "gram: list of list\n  expected: a tensor"),
        ({"delta_B/q": "text"}, "delta_B/q: str"),
        ({"weight": torch.tensor(1.0)}, r"unknown parts \['weight'\]"),
        ({"gram_of_patients": torch.eye(2)}, r"unknown parts \['gram_of_patients'\]"),
        ({b"gram": torch.eye(2)}, "unknown parts"),
    ],
)
def test_a_wrong_tensor_is_named_with_what_was_expected(changes: dict, message: str):
    tensors, facts = pack(update())
    with pytest.raises(UpdateRejected, match=f"blue: {message}"):
        unpack(SiteUpdate, tensors | changes, facts, refused)


@pytest.mark.parametrize("shapes", [{"q": [3, 2]}, {"q": [3, 2, 4, 1]}, {"q": [3, 2, 4.0]}, {"q": 3}, [3]])
def test_a_part_of_a_record_in_a_record_is_named_in_full(shapes: object):
    tensors, facts = pack(introduction())
    with pytest.raises(UpdateRejected, match="blue: spec/shapes: "):
        unpack(SiteIntroduction, tensors, facts | {"spec/shapes": shapes}, refused)


def test_parts_without_names_are_refused():
    with pytest.raises(UpdateRejected, match="blue: list for the parts"):
        unpack(SiteUpdate, [torch.eye(2)], {}, refused)  # type: ignore[arg-type]


def test_a_message_shows_no_value_and_few_names():
    tensors, facts = pack(update())
    with pytest.raises(UpdateRejected) as caught:
        unpack(SiteUpdate, tensors, facts | {"weight": "Ada Lovelace"}, refused)
    assert "Ada" not in str(caught.value)
    with pytest.raises(UpdateRejected) as caught:
        unpack(SiteUpdate, tensors, facts | {"x" * 10**6 + str(i): 1 for i in range(9)}, refused)
    assert len(str(caught.value)) < 1000


def test_the_error_is_the_callers():
    with pytest.raises(CheckpointError, match=r"(?s)here: run: missing.*remedy: delete it"):
        unpack(ServerState, {}, {}, partial(CheckpointError, where="here", remedy="delete it"))
