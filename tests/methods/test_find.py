"""Methods by name and by import path, and who must allow them before any of their code runs."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from fedgram.config.server import ServerConfig, read_server_config
from fedgram.errors import ConfigError
from fedgram.methods import METHODS, Method, find, method_of, require_allowed, require_allowed_at_server
from fedgram.methods.fedit import FedIT
from fedgram.sites.opening import open_site
from one_round import with_method
from toy import Toy

CODE = """
from pathlib import Path
from fedgram.methods import Method
from fedgram.methods.fedit import FedIT

(Path(__file__).parent / "imported").touch()
answer = 42


class Good(FedIT):
    \"\"\"FedIT under another name.\"\"\"


class Silent(Method):
    \"\"\"It sends something and does not say what.\"\"\"

    def sends(self, spec):
        return {"x": (1,)}
"""
GOOD = "elsewhere:Good"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the module of another package writes when it is imported."""
    (tmp_path / "elsewhere.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "elsewhere", raising=False)
    return tmp_path / "imported"


def test_a_name_is_that_of_its_class():
    for name, method in METHODS.items():
        assert find(name) is method
        assert method.__module__ == f"fedgram.methods.{name}"


def test_an_import_path_finds_a_class(elsewhere: Path):
    assert issubclass(find(GOOD), FedIT)
    assert elsewhere.exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "fedprx",
            "unknown method 'fedprx'.*geo, local, .*xflora, or package.module:Class.*did you mean 'fedprox'",
        ),
        ("", "unknown method ''"),
        ("elsewhere", "unknown method"),
        ("elsewhere:", "unknown method"),
        (":Good", "unknown method"),
        ("else where:Good", "unknown method"),
        ("../elsewhere:Good", "unknown method"),
        ("elsewhere:Good:Good", "unknown method"),
        ("nowhere.at_all:Good", "cannot import 'nowhere.at_all:Good'.*install the package here"),
        ("elsewhere:Bad", "cannot import 'elsewhere:Bad'"),
        ("elsewhere:answer", "'elsewhere:answer' is 42.*a subclass of fedgram.methods.Method"),
        ("elsewhere:Path", "a subclass of fedgram.methods.Method"),
        ("elsewhere:Silent", "has no sends_what"),
    ],
)
def test_what_is_no_method_is_refused(elsewhere: Path, toy: Toy, name: str, message: str):
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        find(name)
    with pytest.raises(ConfigError):
        method_of(with_method(toy, name).job)


@pytest.mark.parametrize("listed", [(), ("geo",), ("geo", "elsewhere:Silent"), tuple(METHODS)])
def test_code_of_others_is_imported_where_the_site_lists_exactly_its_path(
    toy: Toy, elsewhere: Path, listed: tuple[str, ...]
):
    run = with_method(toy, GOOD)
    config = dataclasses.replace(run.sites["red"], methods=listed)
    with pytest.raises(
        ConfigError, match="red: methods: the job runs method 'elsewhere:Good', which is foreign"
    ) as e:
        open_site("red", config, run.job)
    assert "add 'elsewhere:Good' to methods in its file" in str(e.value)
    assert not elsewhere.exists()
    require_allowed("red", run.sites["red"], run.job)
    assert not elsewhere.exists()
    assert isinstance(open_site("red", run.sites["red"], run.job).method, FedIT)
    assert elsewhere.exists()


def test_a_misspelt_name_in_a_site_file_is_named(toy: Toy):
    config = dataclasses.replace(toy.sites["red"], methods=("geo", "creamfi"))
    with pytest.raises(ConfigError, match="red: methods: unknown method 'creamfi'") as e:
        require_allowed("red", config, toy.job)
    assert "did you mean 'creamfl'?" in str(e.value)


def test_the_server_runs_foreign_code_only_where_its_own_file_lists_it(toy: Toy, elsewhere: Path, tmp_path: Path):
    path = tmp_path / "server.toml"
    job = with_method(toy, GOOD).job
    with pytest.raises(ConfigError, match=rf"{path}: methods: the job runs method 'elsewhere:Good'") as e:
        require_allowed_at_server(path, read_server_config(path), job)
    assert "add 'elsewhere:Good' to methods there" in str(e.value)
    path.write_text(f'methods = ["{GOOD}"]')
    require_allowed_at_server(path, read_server_config(path), job)
    for name in METHODS:
        require_allowed_at_server(path, ServerConfig(), with_method(toy, name).job)
    with pytest.raises(ConfigError, match="unknown method 'fedprx'"):
        require_allowed_at_server(path, ServerConfig(), with_method(toy, "fedprx").job)
    assert not elsewhere.exists()


def test_every_method_states_what_tables_and_owners_read():
    for name, method in METHODS.items():
        assert method.title, name
        assert method.shares, name
        assert method.__doc__, name
        assert bool(method.sends_what) == (method.sends is not Method.sends), name
    assert {name for name, method in METHODS.items() if not method.source} == {"local", "per_modality"}
