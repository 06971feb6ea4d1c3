"""Averages within a modality, by hand."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from fedgram.errors import UpdateRejected
from fedgram.training.server import Round
from one_round import Step, with_method
from toy import Toy


def test_sites_of_one_modality_train_together(toy: Toy):
    step = Step(with_method(toy, "per_modality"))
    name = f"B/{step.layer}"
    red = step.mean({site: step.updates[site].extra[name] for site in ("red", "crimson")})
    torch.testing.assert_close(step.after.state.extra[f"red/{name}"], red.float())
    torch.testing.assert_close(step.after.state.extra[f"green/{name}"], step.updates["green"].extra[name].float())
    alone = Step(with_method(toy, "local"))
    assert step.after.state.B == alone.after.state.B == {}
    total = sum(step.after.records[-1].shares.values())
    assert total == pytest.approx(1.0)


def test_a_site_that_did_not_introduce_itself_has_no_modality(toy: Toy):
    step = Step(with_method(toy, "per_modality"))
    current = Round(step.before, step.run.job, step.sites)
    with pytest.raises(UpdateRejected, match="did not introduce itself"):
        current.add(dataclasses.replace(step.updates["red"], site="late"))
