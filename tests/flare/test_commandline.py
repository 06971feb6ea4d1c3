"""Folders that FLARE cannot start a job from are refused, and others with odd names are not."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from fedgram.errors import ConfigError
from fedgram.flare.commandline import require_whole
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.job_launcher_spec import JobProcessArgs
from nvflare.app_common.job_launcher import process_launcher
from nvflare.app_common.job_launcher.client_process_launcher import ClientProcessJobLauncher


def flare_keeps(folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether FLARE's own launcher starts a process with that folder as one argument."""
    started: list[list[str]] = []
    monkeypatch.setattr(process_launcher, "spawn_process", lambda argv, env: started.append(argv))
    monkeypatch.setattr(process_launcher, "ProcessHandle", lambda process_adapter: None)
    fl_ctx = FLContext()
    workspace = SimpleNamespace(get_app_custom_dir=lambda job: "")
    arguments = {JobProcessArgs.WORKSPACE: ("-m", str(folder)), JobProcessArgs.JOB_ID: ("-n", "j")}
    fl_ctx.set_prop(FLContextKey.WORKSPACE_OBJECT, workspace, private=True)
    fl_ctx.set_prop(FLContextKey.JOB_PROCESS_ARGS, arguments, private=True)
    try:
        ClientProcessJobLauncher().launch_job({}, fl_ctx)
    except ValueError:
        return False
    return started[0][1:] == ["-m", str(folder), "-n", "j"]


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("hosp-image", True),
        ("klinik_köln@2", True),
        ("Radiology Data", False),
        ("St. Mary's", False),
        ("ward#3", False),
        ("a\\b", False),
    ],
)
def test_a_name_is_refused_where_flare_would_split_it(name: str, whole: bool, monkeypatch: pytest.MonkeyPatch):
    folder = Path("/srv", name)
    assert flare_keeps(folder, monkeypatch) == whole
    if whole:
        require_whole(folder)
    else:
        with pytest.raises(ConfigError, match=r"(?s)/srv/.*FLARE starts no process.*remedy: move it"):
            require_whole(folder)


def test_so_is_that_of_python(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "executable", "/opt/my venv/bin/python")
    with pytest.raises(ConfigError, match="/opt/my venv/bin/python"):
        require_whole(Path("/srv/hosp-image"))
