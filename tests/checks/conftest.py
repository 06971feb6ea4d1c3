"""Kits and a job that the doctor examines."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from examined import free_port
from kits import job_folder, server_kit, site_kit
from toy import Toy


@pytest.fixture
def listening() -> Iterator[int]:
    """A port at which something answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.fixture
def red(toy: Toy, tmp_path: Path, listening: int) -> Path:
    return site_kit(toy, tmp_path / "red", listening)


@pytest.fixture
def hub(tmp_path: Path) -> Path:
    return server_kit(tmp_path / "server", free_port())


@pytest.fixture
def job(toy: Toy, tmp_path: Path) -> Path:
    return job_folder(toy, tmp_path / "job")
