"""What a reader is told: once, in few words, of files and names that exist."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

import fedgram
from toy import ROOT

PAGES = sorted(
    [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "provisioning/README.md")]
    + list((ROOT / "docs").rglob("*.md"))
)
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
PROSE = {page: FENCE.sub("\n\n", text) for page, text in TEXT.items()}
LINK = re.compile(r"\]\((?!\w+:)([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"`([^`\n]+)`")
END = re.compile(r"\n\s*\n|\n[-*|]|\n\d+\. |\n?#.*\n|\||[.:;!?](?=\s)")
FOLDERS = "custom|jobs|anchors|provisioning|tests|docs|examples|benchmarks|research"


def sentences(prose: str) -> set[str]:
    """Sentences of eight words or more, without code and marks; a cell of a table is one, too."""
    found = set()
    for part in END.split(CODE.sub(" ", LINK.sub("]", prose))):
        words = re.findall(r"[^\W_]+", part.lower())
        if len(words) >= 8:
            found.add(" ".join(words))
    return found


def heading(line: str) -> str:
    """The anchor that a heading gets."""
    return re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", line.lstrip("# ").lower()).strip())


def imported(page: Path) -> Iterator[tuple[str, str]]:
    """What the Python on a page takes from fedgram: module and name."""
    for block in re.findall(r"^```python\n(.*?)^```$", TEXT[page], re.MULTILINE | re.DOTALL):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fedgram"):
                yield from ((node.module or "", alias.name) for alias in node.names)


def test_no_sentence_is_written_twice():
    pages = defaultdict(set)
    for page, prose in PROSE.items():
        for sentence in sentences(prose):
            pages[sentence].add(page.relative_to(ROOT).as_posix())
    assert {sentence: where for sentence, where in pages.items() if len(where) > 1} == {}


def test_sentences_are_found_in_text_lists_and_tables():
    """A test that sees no sentences passes everything."""
    one = "one two three four five six seven eight"
    text = f"# A\n{one}.\nNine: {one} [x](y)\n\n- {one}\n  y\n\n| a | {one} `b` |\n|---|---|\n\n1. {one}\n   z\n"
    assert sentences(text) == {one, f"{one} x", f"{one} y", f"{one} z"}


def test_the_readme_is_short_and_says_how_to_begin():
    text = TEXT[ROOT / "README.md"]
    assert len(text.splitlines()) <= 200
    assert all(f"make {target}" in text for target in ("demo", "test", "help", "docs"))


def test_links_lead_somewhere():
    broken = []
    for page, prose in PROSE.items():
        for target, anchor in LINK.findall(prose):
            path = (page.parent / target).resolve() if target else page
            anchors = {heading(line) for line in TEXT.get(path, "").splitlines() if line.startswith("#")}
            if not path.exists() or (anchor and path in TEXT and anchor[1:] not in anchors):
                broken.append(f"{page.name}: {target}{anchor}")
    assert broken == []


def test_files_that_are_named_exist():
    """Paths in code that begin with a folder of the repository; a name in capitals is the reader's own."""
    named = {code for prose in PROSE.values() for code in CODE.findall(prose)}
    paths = {code for code in named if re.fullmatch(rf"(?:{FOLDERS})/[\w./@-]+", code) and "NAME" not in code}
    assert {path for path in paths if not (ROOT / path).exists()} == set()
    assert len(paths) > 10


def test_what_python_on_a_page_imports_exists():
    missing = []
    for page in PAGES:
        for module, name in imported(page):
            there = hasattr(importlib.import_module(module), name)
            if not there and importlib.util.find_spec(f"{module}.{name}") is None:
                missing.append(f"{page.name}: {module}.{name}")
    assert missing == []


def test_targets_of_make_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)`", "".join(PROSE.values()))) <= targets


def test_an_excerpt_is_what_its_file_says():
    found = re.findall(r"<!-- from: (\S+) -->\n```\w+\n(.*?)```", "".join(TEXT.values()), re.DOTALL)
    assert [path for path, block in found if block not in (ROOT / path).read_text()] == []
    assert found


def test_the_map_has_every_package():
    text = TEXT[ROOT / "docs/architecture.md"]
    packages = {path.parent.name for path in (ROOT / "custom/fedgram").glob("*/__init__.py")}
    assert {name for name in packages if f"| `{name}/` |" not in text} == set()


def test_only_the_runbook_is_long():
    lines = {page.name: len(text.splitlines()) for page, text in TEXT.items()}
    assert [name for name, count in lines.items() if count > 200] == ["federation.md"]


def test_a_row_of_a_table_has_as_many_cells_as_its_head():
    for page, prose in PROSE.items():
        for is_table, lines in groupby(prose.splitlines(), key=lambda line: line.startswith("|")):
            counts = {CODE.sub("", line).count("|") for line in lines} if is_table else set()
            assert len(counts) <= 1, page.name


def test_the_version_is_the_same_everywhere():
    assert f"\nversion: {fedgram.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {fedgram.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
