"""The parts of the documentation that are read from the code and the repository when it is built.

A page of ``docs/`` may hold ``<!-- generated: NAME -->``, where a table of that name is put. Pages may link to any
file of the repository: the files that they link to become pages of the site.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import json
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {f"{name}.md": f"{name.lower()}.md" for name in ("CONTRIBUTING", "SECURITY", "CHANGELOG")} | {
    "README.md": "index.md"
}
IMAGES = {".png", ".svg"}
_LINK = re.compile(r"(?<=\]\()(?!\w+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_GENERATED = re.compile(r"<!-- generated: ([\w ]+) -->")
_ROLE = re.compile(r":\w+:<code>~?([^<]+)</code>")

# links between files of the repository


def uri_of(path: Path) -> str | None:
    """The place in the site of a file of the repository; None for a folder."""
    if path.is_dir():
        return None
    name = path.relative_to(ROOT).as_posix()
    if path.is_relative_to(DOCS):
        return path.relative_to(DOCS).as_posix()
    return PAGES.get(name) or (f"files/{name}" if path.suffix in IMAGES else f"files/{name}.md")


def source_of(uri: str) -> Path:
    """The file of the repository that a page of the site comes from."""
    named = {page: ROOT / name for name, page in PAGES.items()}
    return named.get(uri) or (ROOT / uri[6:].removesuffix(".md") if uri.startswith("files/") else DOCS / uri)


def targets(path: Path) -> Iterable[Path]:
    """The files that a Markdown file of the repository links to."""
    for part in _FENCE.split(path.read_text(encoding="utf-8"))[::2]:
        for match in _LINK.finditer(part):
            yield (path.parent / match[1]).resolve()


def relinked(text: str, path: Path, uri: str) -> str:
    """The text of a file of the repository with its links as they are in the site."""

    def link(match: re.Match[str]) -> str:
        target = uri_of((path.parent / match[1]).resolve())
        return os.path.relpath(target or uri, os.path.dirname(uri) or ".") + (match[2] or "")

    return "".join(part if i % 2 else _LINK.sub(link, part) for i, part in enumerate(_FENCE.split(text)))


def content_of(path: Path) -> str:
    """A page that shows a file of the repository."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    language = path.suffix.lstrip(".").replace("ipynb", "json")
    return f"# {path.relative_to(ROOT)}\n\n````{language}\n{text}\n````\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages at the root of the repository, and every file that a page links to."""
    waiting = [ROOT / name for name in PAGES] + [DOCS / file.src_uri for file in files.documentation_pages()]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        uri = uri_of(path)
        if uri is not None and files.get_file_from_path(uri) is None and path.is_file():
            image = path.suffix in IMAGES
            source = {"abs_src_path": str(path)} if image else {"content": content_of(path)}
            files.append(File.generated(config, uri, **source))
        if path.suffix == ".md":
            new = {target for target in targets(path) if target.is_relative_to(ROOT)} - seen
            waiting += new
            seen |= new
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fill in the generated tables and turn links to files into links to pages."""
    uri = page.file.src_uri
    if uri.startswith("files/"):
        page.meta["search"] = {"exclude": True}
        if not uri.endswith(".md.md"):
            return markdown
    text = relinked(markdown, source_of(uri), uri)
    return _GENERATED.sub(lambda match: TABLES[match[1]](), text)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Docstrings speak of classes and functions in Sphinx's way; a reader of the site sees their names."""
    return _ROLE.sub(r"<code>\1</code>", html)


# tables


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown; the signs ``|`` and ``<`` in a cell are kept."""
    cells = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in (head, *rows)]
    cells.insert(1, ["---"] * len(cells[0]))
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def attributes(kind: type) -> dict[str, str]:
    """The descriptions in the ``Attributes:`` of a class by name."""
    lines = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].splitlines()
    found: dict[str, str] = {}
    names: list[str] = []
    for line in lines:
        if line and not line.startswith("    "):
            break
        if line.startswith("     "):
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line:
            label, _, text = line.strip().partition(": ")
            names = label.split(", ")
            found |= dict.fromkeys(names, text)
    return {name: plain(text) for name, text in found.items()}


def plain(text: str) -> str:
    """A docstring's text in Markdown."""
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text).replace("``", "`")


def type_name(hint: Any) -> str:
    """A type as somebody writes it who fills in a file."""
    arguments = [argument for argument in get_args(hint) if argument is not type(None)]
    if get_origin(hint) is Literal:
        return ", ".join(f"`{argument}`" for argument in arguments)
    if type(None) in get_args(hint):
        return type_name(arguments[0])
    if get_origin(hint) is tuple:
        return f"list of {type_name(arguments[0])}"
    if arguments:
        return "table"
    return {"str": "text", "float": "number", "int": "whole number", "bool": "true, false"}.get(
        hint.__name__, "table"
    )


def default_of(field: dataclasses.Field[Any]) -> str:
    """The default as it would stand in a file; empty where there is none."""
    if field.default is dataclasses.MISSING:
        return "required" if field.default_factory is dataclasses.MISSING else ""
    if field.default in (None, "", ()):
        return "none"
    value = field.default if isinstance(field.default, str) else json.dumps(field.default)
    return f"`{value}`" if len(value) < 40 else "all"


def part_of(hint: Any) -> type | None:
    """The dataclass that a setting is a table of."""
    return next((kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)), None)  # type: ignore


def settings(kind: type, prefix: str = "", shown: dict[type, str] | None = None) -> str:
    """A table of the settings in a dataclass, and below it one for each table in it."""
    head, seen = f"### {prefix.rstrip('.')}\n\n" if prefix else "", {} if shown is None else shown
    if kind in seen:
        return f"{head}The settings of `{seen[kind]}`, once more."
    seen[kind] = prefix.rstrip(".")
    hints, described, parts, rows = get_type_hints(kind), attributes(kind), [], []
    for field in dataclasses.fields(kind):
        if part := part_of(hints[field.name]):
            parts.append((f"{prefix}{field.name}", part))
        else:
            name, text = f"`{field.name}`", described.get(field.name, "")
            rows.append((name, type_name(hints[field.name]), default_of(field), text))
    first = plain((inspect.getdoc(kind) or "").partition("\n")[0])
    own = table(("name", "type", "default", "what it is"), rows)
    return "\n\n".join([f"{head}{first}", own, *(settings(part, f"{name}.", seen) for name, part in parts)])


def methods() -> str:
    """A row for each method of the registry."""
    from fedgram.methods import METHODS

    rows = [
        (
            f"`{name}`",
            ", ".join(filter(None, (kind.title, kind.source))),
            kind.shares,
            kind.sends_what or "nothing",
            f"`{Path(inspect.getfile(kind)).name}`",
        )
        for name, kind in METHODS.items()
    ]
    head = ("`method.name`", "what it is", "what is shared", "sent beside B, G and one weight", "file")
    return table(head, rows)


def outbound() -> str:
    """The contract of what leaves a site, with the reason for each part."""
    from fedgram.flare.outbound import EXTRA, LEAVES

    rows = [(part.what, part.why, ", ".join(f"`{f}`" for f in part.fields)) for part in (*LEAVES, EXTRA)]
    return table(("what", "why", "its names in the messages"), rows)


def stays() -> str:
    """A list of what never leaves a site."""
    from fedgram.flare.outbound import STAYS

    return "\n".join(f"- {what}" for what in STAYS)


def layers() -> str:
    """The layers of the package from the highest, as bars, from the test that guards them."""
    tree = ast.parse((ROOT / "tests/test_architecture.py").read_text(encoding="utf-8"))
    (order,) = (
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("LAYERS", "ORDER")
    )
    bars = [" · ".join(sorted(names)) for names in reversed(ast.literal_eval(order))]
    return "\n".join(['<div class="layers">', *(f"<div>{bar}</div>" for bar in bars), "</div>"])


def commands() -> str:
    """Every command of `fedgram` with its arguments and options."""
    import typer
    from fedgram.cli.main import app

    def walk(command: Any, name: str) -> Iterable[str]:
        for child, below in sorted(getattr(command, "commands", {}).items()):
            yield from walk(below, f"{name} {child}")
        if not getattr(command, "commands", None):
            rows = [
                (f"`{' '.join(p.opts) if p.opts[0].startswith('-') else p.name}`", getattr(p, "help", "") or "")
                for p in command.params
                if p.name != "help"
            ]
            text = plain(" ".join((command.help or "").split()))
            yield f"## {name}\n\n{text}\n\n{table(('argument, option', 'what it is'), rows)}"

    return "\n\n".join(walk(typer.main.get_command(app), "fedgram"))


def _of(module: str, name: str) -> Callable[[], str]:
    def build() -> str:
        return settings(getattr(__import__(f"fedgram.config.{module}", fromlist=[name]), name))

    return build


TABLES: dict[str, Callable[[], str]] = {
    "JobConfig": _of("job", "JobConfig"),
    "SiteConfig": _of("site", "SiteConfig"),
    "ServerConfig": _of("server", "ServerConfig"),
    "methods": methods,
    "outbound": outbound,
    "stays": stays,
    "layers": layers,
    "commands": commands,
}
