"""What the tests of the doctor have in common: to examine a kit, and to look for one trouble."""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

from fedgram.checks import doctor
from fedgram.checks.doctor.visit import Finding
from kits import edit_json, write_json


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def examine(folder: Path, job: Path | None = None) -> list[tuple[str, Finding]]:
    return list(doctor.examine(doctor.visit(folder, job)))


def troubles(findings: list[tuple[str, Finding]], *levels: str) -> list[tuple[str, Finding]]:
    return [(name, f) for name, f in findings if f.level in (levels or ("failure", "warning"))]


def assert_one(findings: list[tuple[str, Finding]], check: str, level: str, text: str, remedy: str) -> None:
    """Exactly one trouble of that level, in that check, with that text and remedy."""
    ((name, finding),) = troubles(findings, level)
    assert name == check
    assert re.search(text, finding.text), finding
    assert re.search(remedy, finding.remedy), finding


def edit_meta(job: Path, **changes: object) -> None:
    edit_json(job / "meta.json", **changes)


def edit_settings(job: Path, **changes: object) -> None:
    path = job / "app_server/config/config_fed_server.json"
    content = json.loads(path.read_text())
    content["workflows"][0]["args"]["job"] |= changes
    write_json(path, content)
