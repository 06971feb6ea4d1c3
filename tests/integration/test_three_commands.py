"""The README's three commands, word for word: from a user's raw files to a scored CSV."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from toy import ROOT

pytestmark = pytest.mark.slow

KINDS = ("astrocyte", "microglia", "neuron")
CELLS, GENES, NOTES = 453, 765, 231
_TELLING = 24  # genes that differ between kinds; the others are noise
_WORDS = {
    "astrocyte": ("star shaped", "glial", "supports the synapse", "fills gaps"),
    "microglia": ("small", "immune", "eats debris", "moves about"),
    "neuron": ("long", "fires", "carries signals", "branches widely"),
}


def cells(draw: np.random.Generator, count: int) -> pd.DataFrame:
    """Counts of genes; each kind has a few that are high."""
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    means = np.ones((count, GENES))
    for i, kind in enumerate(kinds):
        means[i, KINDS.index(kind) : _TELLING : len(KINDS)] = 4
    table = pd.DataFrame(draw.poisson(means), columns=[f"gene_{i}" for i in range(GENES)])
    return table.assign(kind=kinds)


def notes(draw: np.random.Generator, count: int) -> pd.DataFrame:
    kinds = [KINDS[i % len(KINDS)] for i in range(count)]
    texts = [
        f"case {draw.integers(10**6)}: a cell that is {' and '.join(draw.permutation(_WORDS[kind])[:2])}"
        for kind in kinds
    ]
    return pd.DataFrame({"note": texts, "kind": kinds})


def readme_commands() -> list[str]:
    text = (ROOT / "README.md").read_text()
    block = re.search(r"<!-- worked example: three commands -->\n```\n(.*?)```", text, re.DOTALL)
    assert block
    return block[1].strip().splitlines()


def test_from_raw_files_to_a_scored_csv(tmp_path: Path):
    draw = np.random.default_rng(0)
    cells(draw, CELLS).to_csv(tmp_path / "cells.csv", index=False)
    notes(draw, NOTES).to_csv(tmp_path / "notes.csv", index=False)
    cells(draw, 30).to_csv(tmp_path / "public-cells.csv", index=False)
    notes(draw, 30).to_csv(tmp_path / "public-notes.csv", index=False)
    new = cells(draw, 60)
    new.drop(columns="kind").to_csv(tmp_path / "new-cells.csv", index=False)
    init, simulate, predict = readme_commands()
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}
    for command in (init, f"{simulate} --rounds 3 --steps 4", predict):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        assert "does not count" not in done.stdout
    scored = pd.read_csv(tmp_path / "predictions.csv")
    assert len(scored) == len(new)
    assert (scored["prediction"] == new["kind"]).mean() > 0.8
    probabilities = scored[[f"p({kind})" for kind in KINDS]].sum(axis=1)
    assert probabilities.between(0.99, 1.01).all()
