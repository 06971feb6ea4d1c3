"""CreamFL against its paper."""

from __future__ import annotations

import pytest
import torch
from fedgram.methods.base import TaskLoss
from one_round import Step, with_method
from torch.nn.functional import normalize
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
