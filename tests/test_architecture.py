"""The shape of the package, read from its source: who may import whom, and a few rules that no linter has."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

CUSTOM = Path(__file__).resolve().parents[1] / "custom"
PACKAGE = CUSTOM / "fedgram"
FILES = sorted(CUSTOM.rglob("*.py"))

# Low to high; a module may use its own layer and those below. The package itself is above nothing: its
# `__init__` imports none of it before it is asked to (see the test).
LAYERS = (
    {"errors"},
    {"records", "files", "pretrained"},
    {"core"},
    {"config"},
    {"data"},
    {"modalities", "demo"},
    {"anchors", "model", "scoring"},
    {"methods"},
    {"sites"},
    {"training"},
    {"results"},
    {"flare"},
    {"checks"},
    {"cli", "__main__"},
)
HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
RECORDS = ("fedgram.records", "fedgram.data.items", "fedgram.training.server", "fedgram.training.outcome")
RECORDS += ("fedgram.training.masked.messages",)
HEAVY = ("nvflare", "transformers", "peft")


def module_name(path: Path) -> str:
    parts = path.relative_to(CUSTOM).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def nodes(path: Path) -> list[ast.AST]:
    """What a file is made of; many rules read every file."""
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def imports(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever it stands, in absolute form."""
    package = module_name(path) if path.name == "__init__.py" else module_name(path).rpartition(".")[0]
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            # `from fedgram import core` names a module as well; attributes of modules do no harm here.
            found |= {base} | {f"{base}.{alias.name}" for alias in node.names}
    return found


def layer(module: str) -> str:
    """The name in LAYERS that a module stands under; "" for the package itself."""
    return [*module.split("."), ""][1]


def modules() -> dict[str, set[str]]:
    """The modules of the package that each of them imports."""
    names = {module_name(path) for path in FILES}
    return {module_name(path): imports(path) & names - {module_name(path)} for path in FILES}


def reached_from(module: str, graph: dict[str, set[str]]) -> set[str]:
    seen, waiting = set(), [module]
    while waiting:
        new = graph[waiting.pop()] - seen
        seen |= new
        waiting.extend(new)
    return seen


def every_file():
    return pytest.mark.parametrize("path", [pytest.param(path, id=module_name(path)) for path in FILES])


def test_every_module_is_in_a_layer():
    assert {layer(module) for module in modules()} == {"", *HEIGHT}


def test_no_import_climbs():
    """Not through others either, as each of them stays at its height or below."""
    climbs = {
        (user.removeprefix("fedgram."), layer(used))
        for user, imported in modules().items()
        for used in imported
        if layer(user) and layer(used) and HEIGHT[layer(used)] > HEIGHT[layer(user)]
    }
    assert climbs == set()


def test_the_package_imports_none_of_itself_before_it_is_asked():
    """Else every import of fedgram would reach every layer."""
    assert modules()["fedgram"] == set()


def classes() -> list[tuple[str, ast.ClassDef]]:
    """Every class of the package, with the module that has it."""
    found = []
    for path in FILES:
        found += [(module_name(path), node) for node in nodes(path) if isinstance(node, ast.ClassDef)]
    return found


def test_no_two_classes_have_one_name():
    count = Counter(node.name for _, node in classes() if not node.name.startswith("_"))
    assert {name for name, times in count.items() if times > 1} == set()


def test_records_are_built_with_keywords():
    """From three fields on: by position, two of one type could change places."""
    for module, node in classes():
        kinds = [ast.unparse(decorator) for decorator in node.decorator_list]
        fields = [line for line in node.body if isinstance(line, ast.AnnAssign)]
        if module in RECORDS and any("dataclass" in kind for kind in kinds) and len(fields) >= 3:
            assert "dataclass(frozen=True, kw_only=True)" in kinds, f"{module}.{node.name}"


def test_no_module_imports_itself_in_a_circle():
    graph = modules()
    assert [module for module in graph if module in reached_from(module, graph)] == []


@every_file()
def test_only_flare_imports_nvflare(path):
    if PACKAGE / "flare" in path.parents:
        return
    users = {name for name in imports(path) if name.split(".")[0] == "nvflare"}
    assert not users, f"{path.relative_to(CUSTOM)} imports {sorted(users)}: only fedgram/flare may"


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem) for path in sorted((PACKAGE / "core").glob("*.py"))]
)
def test_core_is_pure(path):
    """torch, ciphers and the standard library, no files and no network."""
    roots = {name.split(".")[0] for name in imports(path)}
    assert roots <= {"fedgram", "torch", "cryptography", "Crypto"} | sys.stdlib_module_names
    assert not roots & {"os", "io", "pathlib", "shutil", "socket", "subprocess", "tempfile", "urllib"}


def loaded_by(modules: list[str], heavy: tuple[str, ...]) -> str:
    """The heavy ones among the modules that a fresh process has when it has imported these."""
    script = f"import sys, {', '.join(modules)}; print(*sorted(set(sys.modules) & {set(heavy)}))"
    environment = {**os.environ, "PYTHONPATH": str(CUSTOM)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_core_loads_nothing_heavy():
    assert loaded_by([module_name(path) for path in (PACKAGE / "core").glob("*.py")], HEAVY) == ""


@pytest.mark.slow
def test_the_flare_server_has_no_model():
    """It sums what sites send: what it does not import is time and memory of every run."""
    ends = ["fedgram.flare.controller", "fedgram.flare.executors"]
    assert loaded_by(ends, ("transformers", "peft", "sklearn", "pandas", "scipy.stats")) == ""


def test_the_command_line_waits_for_torch_until_it_needs_it():
    assert loaded_by(["fedgram.cli.main"], (*HEAVY, "torch", "pandas")) == ""


@pytest.mark.slow
def test_a_model_is_used_without_what_measures_it():
    assert loaded_by(["fedgram.results.trained"], ("sklearn", "scipy.signal", "matplotlib", "nvflare")) == ""


@every_file()
def test_a_file_fits_on_a_few_screens(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= 300, f"{path.relative_to(CUSTOM)} has {lines} lines; 300 are allowed"


@every_file()
def test_no_assert_statements(path):
    """`python -O` drops them: input is checked by errors with a message."""
    lines = [node.lineno for node in nodes(path) if isinstance(node, ast.Assert)]
    assert not lines, f"{path.relative_to(CUSTOM)} asserts on lines {lines}"


def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch):
    """A checker that sees nothing passes everything."""
    monkeypatch.setattr(f"{__name__}.CUSTOM", tmp_path)
    path = tmp_path / "fedgram" / "core" / "probe.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import nvflare.apis as a\nfrom fedgram import training\nfrom ..flare import wire\nfrom . import cka\n"
        "def f():\n    from fedgram.model.lora import x\n"
    )
    assert imports(path) >= {
        "nvflare.apis",
        "fedgram.training",
        "fedgram.flare.wire",
        "fedgram.core.cka",
        "fedgram.model.lora",
    }
