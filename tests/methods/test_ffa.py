"""FFA-LoRA against its paper."""

from __future__ import annotations

import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.methods import method_of
from one_round import Step, with_method
from toy import Toy


def test_ffa_is_geolora_without_its_geometry_loss(toy: Toy):
    ffa, geo = Step(with_method(toy, "ffa")), Step(with_method(toy, "geo"))
    assert all(torch.equal(b, geo.after.state.B[k]) for k, b in ffa.after.state.B.items())
    for changes in ({"adapter": {"dora": True}}, {"training": {"geometry_weight": 0.1}}):
        with pytest.raises(ConfigError, match="geometry_weight 0"):
            method_of(with_method(toy, "ffa", **changes).job)
