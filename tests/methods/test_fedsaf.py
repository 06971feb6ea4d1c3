"""FedSAF: the prototypes of FedProto, of which only the relations matter."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fedgram.methods.base import TaskLoss
from one_round import Step, with_method
from reference.structure import structure_loss
from strategies import orthogonal
from toy import Toy


def test_fedsaf_matches_relations_and_leaves_the_basis_alone(toy: Toy):
    step = Step(with_method(toy, "fedsaf"))
    state, site = step.after.state, step.sites["blue"]  # blue has no moss
    assert state.extra["known"].tolist() == [1.0] * 4
    data, rows = site.data["fit"], torch.arange(0, len(site.data["fit"]), 4)
    z = site.model.embed(data.tokens)[rows].requires_grad_()
    concepts = sorted(set(step.run.job.anchors.concepts))
    classes = [concepts.index(data.concepts[i]) for i in rows.tolist()]
    loss = site.method.penalty(site, state, TaskLoss(torch.zeros(()), z, rows))
    expected = 0.5 * structure_loss(z.detach(), classes, state.extra["prototypes"])
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    loss.backward()
    assert z.grad.abs().sum() > 0
    prototypes = state.extra["prototypes"]
    turned = prototypes @ orthogonal(0, prototypes.shape[1]).float()
    elsewhere = dataclasses.replace(state, extra={**state.extra, "prototypes": turned})
    again = site.method.penalty(site, elsewhere, TaskLoss(torch.zeros(()), z, rows))
    assert again.item() == pytest.approx(expected, rel=1e-4)


def test_there_are_no_relations_before_the_first_round_or_of_one_class(toy: Toy):
    step = Step(with_method(toy, "fedsaf"))
    site, z = step.sites["red"], torch.eye(2)
    rows = torch.tensor([0, 0])
    assert site.method.penalty(site, step.before.state, TaskLoss(torch.zeros(()), z, rows)) is None
    assert site.method.penalty(site, step.after.state, TaskLoss(torch.zeros(()), z, rows)) is None
