"""FedHeNN against its paper."""

from __future__ import annotations

import pytest
import torch
from fedgram.errors import ConfigError
from fedgram.methods import method_of
from one_round import Step, with_method
from toy import Toy


def test_fedhenn_learns_from_the_grams_alone(toy: Toy):
    step = Step(with_method(toy, "fedhenn"))
    assert step.after.state.B == step.after.state.extra == {}
    alone = Step(with_method(toy, "local"))
    gram = step.updates["red"].gram
    assert not torch.allclose(gram, alone.updates["red"].gram)
    with pytest.raises(ConfigError, match="geometry_weight 0"):
        method_of(with_method(toy, "fedhenn", training={"geometry_weight": 0.0}).job)
