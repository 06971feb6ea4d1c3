"""The site is built without a warning, and what is read from the code is in it."""

from __future__ import annotations

import dataclasses
import html
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.flare import outbound
from fedgram.methods import METHODS
from toy import ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; every warning, such as a broken link, fails."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    path = os.pathsep.join([str(ROOT / "custom"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": path}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def page(site: Path, name: str) -> str:
    return html.unescape((site / name).read_text(encoding="utf-8"))


def test_every_setting_is_described(site: Path):
    text = page(site, "settings.html")
    for kind in (JobConfig, SiteConfig):
        names = [field.name for field in dataclasses.fields(kind)]
        assert [name for name in names if f">{name}<" not in text and f'id="{name}"' not in text] == []
    assert "<td></td>\n</tr>" not in text  # a setting without a description


def test_every_method_is_in_the_table(site: Path):
    text = page(site, "methods.html")
    assert [name for name in METHODS if f"<td><code>{name}</code></td>" not in text] == []


def test_the_contract_is_explained(site: Path):
    text = page(site, "privacy.html")
    assert [part for part in outbound.LEAVES if part.why.replace("`", "") not in text] == []


def test_a_file_that_a_page_links_to_is_part_of_the_site(site: Path):
    assert "The federation in one process" in page(site, "files/examples/01_federation.py.html")


def test_nothing_is_fetched_when_a_page_is_read(site: Path):
    """No page names a font, script or picture of another host. Pages with a diagram fetch Mermaid."""
    for file in site.rglob("*.html"):
        text = file.read_text(encoding="utf-8")
        assert not [mark for mark in ('src="http', "fonts.googleapis", "unpkg.com") if mark in text], file
