"""The learning rates of a round: as the job says, and falling where it says that they decay."""

from __future__ import annotations

import pytest
import torch
from fedgram.config.job import TrainingConfig
from fedgram.sites.state import set_rates


@pytest.mark.parametrize(
    ("decay", "factors"), [(False, [1, 1, 1, 1, 1]), (True, [1, 1, 1, 0.8, 0.4])], ids=["constant", "decay"]
)
def test_rates_of_each_round(decay: bool, factors: list[float]):
    settings = TrainingConfig(rounds=5, learning_rate=0.5, local_learning_rate=0.1, decay=decay)
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": 9.0} for _ in range(2)]
    optimizer = torch.optim.SGD(groups)
    for order in (range(1, 6), range(5, 0, -1)):  # a round's rates do not depend on what came before
        for round in order:
            set_rates(optimizer, settings, round)
            factor = factors[round - 1]
            assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.5 * factor, 0.1 * factor])
