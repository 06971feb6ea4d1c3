"""Records of any kind for Hypothesis, drawn from the types of their fields, and their exact comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, get_args, get_origin, get_type_hints

import torch
from hypothesis import strategies as st
from torch import Tensor

PLAIN = {
    int: st.integers(-(2**53), 2**53),
    float: st.floats(allow_nan=False),
    str: st.text(max_size=6),
}
DTYPES = (torch.float32, torch.bfloat16, torch.float64)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=2))
    made = torch.randn(shape, generator=torch.Generator().manual_seed(draw(st.integers(0, 2**16))))
    return made.to(draw(st.sampled_from(DTYPES)))


def values(hint: Any) -> st.SearchStrategy[Any]:
    if hint is Tensor:
        return tensors()
    if dataclasses.is_dataclass(hint):
        return records(hint)
    inner = get_args(hint)
    if get_origin(hint) is tuple:
        one = inner[1:] == (Ellipsis,)
        return st.lists(values(inner[0]), max_size=3).map(tuple) if one else st.tuples(*map(values, inner))
    return st.dictionaries(PLAIN[str], values(inner[1]), max_size=3) if inner else PLAIN[hint]


def records(kind: Any) -> st.SearchStrategy[Any]:
    """Records of a kind with every field drawn."""
    return st.builds(kind, **{name: values(hint) for name, hint in get_type_hints(kind).items()})


def assert_same(ours: Any, theirs: Any) -> None:
    """Equal in type, name and value, tensors in dtype and to the bit; NaN equals NaN."""
    if dataclasses.is_dataclass(ours):
        assert type(ours) is type(theirs)
        for field in dataclasses.fields(ours):
            assert_same(getattr(ours, field.name), getattr(theirs, field.name))
    elif isinstance(ours, Tensor):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours.nan_to_num(9), theirs.nan_to_num(9))
    elif isinstance(ours, Mapping):
        assert ours.keys() == theirs.keys()
        for key, value in ours.items():
            assert_same(value, theirs[key])
    elif isinstance(ours, tuple):
        assert isinstance(theirs, tuple)
        assert len(ours) == len(theirs)
        for mine, other in zip(ours, theirs, strict=True):
            assert_same(mine, other)
    else:
        assert (type(ours), ours) == (type(theirs), theirs)
