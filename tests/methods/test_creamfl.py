"""CreamFL against its paper."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fedgram.methods.base import TaskLoss
from one_round import Step, with_method
from torch.nn.functional import cross_entropy, normalize
from toy import Toy


def test_creamfl_contrasts_with_the_mean_of_the_others(toy: Toy):
    step = Step(with_method(toy, "creamfl"))
    state, site = step.after.state, step.sites["blue"]
    moss = [i for i, c in enumerate(step.run.job.anchors.concepts) if c == "moss"]
    expected = step.mean({s: u.extra["public"][moss] for s, u in step.updates.items() if s != "blue"})
    torch.testing.assert_close(state.extra["public"][moss], expected.float())
    own, public = (
        normalize(site.model.embed(site.anchors.tokens), dim=-1),
        normalize(state.extra["public"], dim=-1),
    )
    scores = (own @ public.T / 0.1).exp()
    loss = -sum((scores[row, slot] / scores[row].sum()).log() for row, slot in enumerate(site.anchors.slots))
    task = TaskLoss(torch.zeros(()))
    penalty = site.method.penalty(site, state, task)
    assert penalty.item() == pytest.approx(0.5 * loss.item() / len(site.anchors.slots), rel=1e-4)
    assert site.method.penalty(site, step.before.state, task) is None


def test_a_slot_that_nobody_has_sent_yet_has_nothing_to_come_near(toy: Toy):
    """The sites that cover it came late, or were refused: all other slots keep their places."""
    step = Step(with_method(toy, "creamfl"))
    state, site = step.after.state, step.sites["red"]
    task, covered = TaskLoss(torch.zeros(())), state.extra["covered"].clone()
    covered[:2] = covered[-1] = 0.0
    late = replace(state, extra={**state.extra, "covered": covered})
    own, public = site.model.embed(site.anchors.tokens), state.extra["public"]
    known = [slot for slot in site.anchors.slots if covered[slot]]
    scores = normalize(own[known], dim=-1) @ normalize(public[known], dim=-1).T / 0.1
    loss = cross_entropy(scores, torch.arange(len(known)))
    assert site.method.penalty(site, late, task).item() == pytest.approx(0.5 * loss.item(), rel=1e-4)
    nothing = replace(state, extra={**state.extra, "covered": torch.zeros_like(covered)})
    assert site.method.penalty(site, nothing, task) is None
