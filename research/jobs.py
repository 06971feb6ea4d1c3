"""The settings of the jobs that the studies run: those that a user would get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_JOBS = Path(__file__).resolve().parents[1] / "jobs"


def settings(name: str) -> dict[str, Any]:
    """The settings of a job by its name, as plain data; the one place where studies get them."""
    server = json.loads((_JOBS / name / "app_server/config/config_fed_server.json").read_text())
    return server["workflows"][0]["args"]["job"]
