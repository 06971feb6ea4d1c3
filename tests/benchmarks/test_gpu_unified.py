"""The round of a large unified site in miniature, on the CPU: every row is there, and its numbers are sane."""

from __future__ import annotations

import json
import sys
from itertools import product
from math import log
from pathlib import Path

import pytest

from benchmarks import gpu_unified


@pytest.mark.slow
def test_every_row_is_there_and_sane(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "new" / "gpu.json"
    monkeypatch.setattr(gpu_unified, "STEPS", 2)
    monkeypatch.setattr(gpu_unified, "BATCH", 2)
    monkeypatch.setattr(gpu_unified, "PICTURES", 30)
    monkeypatch.setattr(sys, "argv", ["gpu_unified.py", "--miniature", "--out", str(out)])
    gpu_unified.main()
    found = json.loads(out.read_text())
    rows = found["rows"]
    assert [(r["precision"], r["gradient_checkpointing"]) for r in rows] == [
        *product(("bf16", "nf4"), (False, True))
    ]
    for row in rows:
        assert min(value for name, value in row.items() if name.endswith(("seconds", "bytes", "step"))) > 0
        assert row["loss"] == pytest.approx(log(202) + log(512), rel=0.3)  # random weights guess
    assert rows[0]["loss"] == pytest.approx(rows[1]["loss"], rel=1e-2)


def test_the_shapes_are_those_of_janus_pro():
    config = gpu_unified.settings(gpu_unified.PRO_1B)
    tower = config.text_config
    layer = 4 * tower.hidden_size**2 + 3 * tower.hidden_size * tower.intermediate_size + 2 * tower.hidden_size
    whole = tower.num_hidden_layers * layer + tower.vocab_size * tower.hidden_size + tower.hidden_size
    assert whole == 1_442_940_928
    assert (config.vision_config.image_size // config.vision_config.patch_size) ** 2 == 576
