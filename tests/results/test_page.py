"""The page of a run: self-contained, with the test samples of sites where their results are at hand."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fedgram.data.pixels import Picture
from fedgram.results import crossreport, gallery
from rich.console import Console
from site_data import write_image
from toy import SITES


class Seen(HTMLParser):
    """The tags and the words of a page; every tag that is opened is closed."""

    def __init__(self, page: str):
        super().__init__()
        self.addresses, self.sections, self.text, self.open = [], [], "", []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        known = dict(attrs)
        self.addresses += [known[name] for name in ("src", "href") if name in known]
        self.sections += [known["id"]] if tag == "section" else []
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope="module")
def pages(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The server's page, and the one with the results of sites."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "metrics.json").write_bytes((finished / "server/metrics.json").read_bytes())
    results = [finished / "fedgram" / name / "result" for name in SITES]
    crossreport.write(results, folder, Console(file=io.StringIO()))
    return {"server": finished / "server/report.html", "sites": folder / "report.html"}


@pytest.mark.parametrize("name", ["server", "sites"])
def test_nothing_is_fetched(name: str, pages: dict[str, Path]):
    page = pages[name].read_text()
    seen = Seen(page)
    assert seen.open == []
    assert all(address.startswith(("data:", "#")) for address in seen.addresses)
    assert not re.search(r"<script|@import|url\(", page)
    assert pages[name].stat().st_size < 2_000_000


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Debian's chromium")
@pytest.mark.parametrize("name", ["server", "sites"])
@pytest.mark.parametrize("width", [500, 1200])
def test_a_browser_shows_all_of_it_in_a_narrow_and_in_a_wide_window(
    name: str, width: int, pages: dict[str, Path], tmp_path: Path
):
    """Nothing is wider than the window but what scrolls in it, every picture is drawn, and no word is cut off."""
    probe = """<script>addEventListener("load", () => {
      const page = document.documentElement, pictures = [...document.images];
      const cut = [...document.querySelectorAll("main *")].filter((e) => !e.closest(".wide")
        && e.getBoundingClientRect().right > page.clientWidth);
      document.title = JSON.stringify([page.clientWidth, page.scrollWidth, cut.length,
        pictures.length, pictures.filter((p) => p.complete && p.naturalWidth).length]);
    });</script>"""
    probed = tmp_path / "page.html"
    probed.write_text(pages[name].read_text().replace("</head>", f"{probe}</head>"))
    browser = [
        "chromium",
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
    ]
    command = [*browser, f"--window-size={width},800", "--dump-dom", probed.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    title = re.search("<title>(.*?)</title>", shown)
    assert title is not None
    window, needed, cut, pictures, drawn = json.loads(title[1])
    assert (needed, cut) == (window, 0)
    assert window <= width
    assert drawn == pictures > 0


def test_the_server_shows_what_sites_have_sent_and_nothing_else(pages: dict[str, Path]):
    server, sites = (Seen(pages[name].read_text()) for name in ("server", "sites"))
    assert server.sections == ["results", "curves", "left"]
    assert sites.sections == ["results", "own", "across", "gallery", "curves", "left"]
    assert "Mean gain over home in accuracy" in server.text
    for word in ("Confusion", "red asks", "macro-F1"):
        assert word in sites.text
        assert word not in server.text


def test_pictures_lie_in_the_page_and_texts_stand_in_it(tmp_path: Path):
    write_image(tmp_path / "x.png", 1)
    picture, text = (
        gallery._shown(Picture(tmp_path / "x.png"), "dog", right=True),
        gallery._shown("a " * 200, "cat"),
    )
    assert picture.picture.startswith("data:image/png;base64,")
    assert picture.words == "x.png"
    assert (text.picture, text.right, len(text.words)) == (None, None, 160)
    assert gallery.first_of_each(["b", "a", "b", "a"], 4) == [1, 3, 0, 2]
