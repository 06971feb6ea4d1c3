"""Shared attention against its paper."""

from __future__ import annotations

from fedgram.methods.fedit import factors_of
from one_round import Step, with_method
from toy import Toy


def test_fedcola_shares_attention_and_nothing_else(toy: Toy):
    step = Step(with_method(toy, "fedcola"))
    shared = set(step.after.state.B)
    assert shared == {k for k in step.after.spec.shapes if ".attention." in k} != set(step.after.spec.shapes)
    assert set(factors_of(step.after.state.extra, "A")) == shared
    method = step.sites["red"].method
    names = ("model.layers.3.self_attn.q_proj", "layers.0.attn.qkv", "h.0.attention.dense", "layers.0.mlp.up_proj")
    assert [method.shares_b(name) for name in names] == [True, True, True, False]
