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


@pytest.mark.parametrize("path", [pytest.param(path, id=path.stem) for path in sorted(EXAMPLES.glob("*.ipynb"))])
def test_a_notebook_runs_from_top_to_bottom(path: Path):
    notebook = nbformat.read(path, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells), "clear the outputs before committing"
    NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    said = "".join(output.get("text", "") for cell in notebook.cells for output in cell.get("outputs", ()))
    assert "in anchor coordinates" in said
