"""FedProto against its paper."""

from __future__ import annotations

import pytest
import torch
from fedgram.methods.base import TaskLoss
from one_round import Step, with_method
from toy import Toy


def test_fedproto_averages_the_classes_that_a_site_has(toy: Toy):
    step = Step(with_method(toy, "fedproto"))
    concepts = sorted(set(step.run.job.anchors.concepts))
    state = step.after.state
    moss = concepts.index("moss")  # blue has none
    expected = step.mean({site: u.extra["prototypes"][moss] for site, u in step.updates.items() if site != "blue"})
    torch.testing.assert_close(state.extra["prototypes"][moss], expected.float())
    assert state.extra["known"].tolist() == [1.0] * 4
    site = step.sites["red"]
    data, z = site.data["train"], site.model.embed(site.data["train"].tokens)
    for index, concept in enumerate(concepts):
        rows = [i for i, c in enumerate(data.concepts) if c == concept]
        torch.testing.assert_close(step.updates["red"].extra["prototypes"][index], z[rows].mean(0))
    rows = torch.tensor([0, 5])
    distance = sum(
        (z[i] - state.extra["prototypes"][concepts.index(data.concepts[i])]).square().mean() for i in rows.tolist()
    )
    task = TaskLoss(torch.zeros(()), z[rows], rows)
    assert site.method.penalty(site, state, task).item() == pytest.approx(0.5 * distance.item() / 2, rel=1e-5)
    assert site.method.penalty(site, step.before.state, task) is None
