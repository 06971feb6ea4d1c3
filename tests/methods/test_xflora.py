"""Modality experts, by hand."""

from __future__ import annotations

import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.methods import method_of
from one_round import Step, with_method
from toy import Toy


def test_one_half_of_the_ranks_belongs_to_the_modality(toy: Toy):
    step = Step(with_method(toy, "xflora"))
    name, half = f"B/{step.layer}", step.run.job.adapter.rank // 2
    everybody = step.mean({site: u.extra[name] for site, u in step.updates.items()})
    red = step.mean({site: step.updates[site].extra[name] for site in ("red", "crimson")})
    got = step.after.state.extra[f"red/{name}"]
    torch.testing.assert_close(got[:, :half], everybody[:, :half].float())
    torch.testing.assert_close(got[:, half:], red[:, half:].float())


def test_one_rank_has_no_half(toy: Toy):
    with pytest.raises(ConfigError, match="rank 1"):
        method_of(with_method(toy, "xflora", adapter={"rank": 1}).job)
