"""A masked job in the simulator: the model of the plain loop, with keys that nobody has signed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import simulator
from masked_toy import NAMES, four
from test_simulator import assert_same_model, plain
from toy import Toy

pytestmark = pytest.mark.slow


def test_the_simulator_and_the_plain_loop_give_the_same_masked_model(toy: Toy, tmp_path: Path):
    run = four(toy, training={"rounds": 2, "local_steps": 1}, baseline=False)
    data = {name: "red" if name == "violet" else name for name in NAMES}
    simulator.prepare(run, tmp_path, {name: (simulator.HONEST, site) for name, site in data.items()})
    results = simulator.run(run, tmp_path, len(NAMES))
    assert_same_model(results, plain(run, tmp_path / "plain"))
    records = json.loads((results / "metrics.json").read_text())["rounds"]
    assert [set(record["metrics"]) for record in records] == [set(NAMES)] * 2
