"""Every docstring begins with a plain sentence that stands alone, also where its name is not in sight."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "custom" / "fedgram"
# A sentence that begins so finishes the name above it, or speaks of something that is not in sight.
FRAGMENTS = (
    *("What", "Which", "Who", "Whoever", "Whose", "Where", "When", "Why", "How", "Did"),
    *("Of", "As", "From", "Under", "Up", "Those", "Them", "They", "It", "Its", "See", "Undo", "Raises", "Same"),
)
_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_Named = ast.Module | _Definition


def documented(tree: ast.Module, name: str) -> Iterator[tuple[str, _Named, str]]:
    """Name, node and docstring of a module and of all that has one inside it."""
    waiting: list[tuple[str, ast.AST]] = [(name, tree)]
    while waiting:
        name, node = waiting.pop()
        if isinstance(node, _Named) and (text := ast.get_docstring(node)) is not None:
            yield name, node, text
        for child in ast.iter_child_nodes(node):
            inside = f"{name}.{child.name}" if isinstance(child, _Definition) else name
            waiting.append((inside, child))


def fault(node: _Named, text: str) -> str | None:
    """Say what is wrong with the first line of a docstring."""
    line = text.split("\n", 1)[0]
    words = line.split()
    if not line[:1].isupper():
        return "begins with no capital letter"
    if not line.endswith((".", ":")):
        return "does not end on its first line with a full stop, or with a colon before a list"
    if len(words) < 3:
        return "has fewer than three words"
    if words[0].rstrip(",:") in FRAGMENTS or words[:2] == ["The", "same"]:
        return f"begins with {words[0]!r}, and so is half a sentence"
    returns = ast.unparse(node.returns) if isinstance(node, ast.FunctionDef) and node.returns else ""
    if words[0] == "Whether" and returns != "bool":
        return "begins with 'Whether', and is of no function that returns a bool"
    return None


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_first_lines_stand_alone(path):
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    found = documented(ast.parse(path.read_text(encoding="utf-8")), module)
    assert {name: problem for name, node, text in found if (problem := fault(node, text))} == {}


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ('"""sha256 of the weights."""', "capital"),
        ('"""(N, d) of a site."""', "capital"),
        ('"""A sentence that goes on\non the next line."""', "full stop"),
        ('"""A question, is it?"""', "full stop"),
        ('"""A mask."""', "three words"),
        ('"""What the server does."""', "'What'"),
        ('"""The same for held-out anchors."""', "'The'"),
        ('def f() -> int:\n    """Whether it holds."""', "'Whether'"),
        ('class A:\n    def f(self):\n        """Of one split, or of a whole site."""', "'Of'"),
    ],
)
def test_each_fault_is_seen(code, problem):
    """A checker that sees nothing passes everything."""
    [(_, node, text)] = documented(ast.parse(code), "probe")
    assert problem in (fault(node, text) or "")


@pytest.mark.parametrize(
    "code",
    [
        '"""The questions of a site."""',
        'def f() -> bool:\n    """Whether it holds."""',
        '"""Two laws hold:\n\n- one\n- two\n"""',
    ],
)
def test_a_good_sentence_passes(code):
    [(_, node, text)] = documented(ast.parse(code), "probe")
    assert fault(node, text) is None
