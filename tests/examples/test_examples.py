"""The examples run as they stand."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from toy import ROOT

EXAMPLES = ROOT / "examples"


@pytest.mark.slow
def test_the_federation_trains_and_the_readme_asks_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    runpy.run_path(str(EXAMPLES / "01_federation.py"))["main"](
        tmp_path / "results/demo/workspace", rounds=1, steps=1
    )
    said = capsys.readouterr().out
    assert "round 1/1" in said
    assert "the picture of a bear finds" in said
    (tmp_path / "anchors").symlink_to(ROOT / "anchors")
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert len(names["image"].coordinates([names["bear"]])) == 1


def executed(name: str, folder: Path) -> str:
    """What the cells of a notebook print."""
    notebook = nbformat.read(EXAMPLES / name, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    place = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=place).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_the_geometry_that_travels(tmp_path: Path):
    assert "in anchor coordinates" in executed("02_geometry.ipynb", tmp_path)


@pytest.mark.slow
def test_a_federation_in_one_call(tmp_path: Path):
    said = executed("03_one_call.ipynb", tmp_path)
    assert "round 4:" in said
    assert re.search(r"home +together +kept", said)
    assert "Prediction(value=" in said


def test_every_notebook_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.ipynb")} == {"02_geometry.ipynb", "03_one_call.ipynb"}
