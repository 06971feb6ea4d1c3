"""The doctor at a site with a unified model."""

from __future__ import annotations

import dataclasses
import json
import socket
from pathlib import Path

import pytest
import unified_toy
from fedgram.checks import doctor
from fedgram.checks.doctor import show
from fedgram.flare.components import executor_of
from kits import CLIENT_CLASSES, job_folder, site_kit, write_json, write_policy
from toy import write_site_file


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> unified_toy.UnifiedToy:
    return unified_toy.make(tmp_path_factory.mktemp("unified"))


def kit_and_job(toy: unified_toy.UnifiedToy, folder: Path, port: int) -> tuple[Path, Path]:
    kit, job = site_kit(toy, folder / "kit", port, "one"), job_folder(toy, folder / "job")
    config = dataclasses.replace(toy.sites["one"], cache=str(folder / "cache"), state=str(folder / "state"))
    write_site_file(kit / "local" / "fedgram.toml", config)
    write_policy(kit / "local", CLIENT_CLASSES, allow_log_streaming=False)
    path = job / "one" / "config" / "config_fed_client.json"
    content = json.loads(path.read_text())
    content["executors"][0]["executor"] = executor_of("unified")
    write_json(path, content)
    return kit, job


def test_a_good_unified_site_passes(toy: unified_toy.UnifiedToy, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kit, job = kit_and_job(toy, tmp_path, listener.getsockname()[1])
        visit = doctor.visit(kit, job)
        found = list(doctor.examine(visit))
    assert [(check, f.text) for check, f in found if f.level == "failure"] == []
    texts = "\n".join(f.text for _, f in found)
    assert "modality 'unified'" in texts
    assert "train: 1" in texts
    assert "adapted layers" in texts
    assert "rehearsal" not in texts
    extent = show.extent_of(visit)
    assert extent is not None
    assert (extent.slots, extent.heldout) == (6, 6)
    assert extent.samples > 10


def test_what_is_rehearsed_is_counted(toy: unified_toy.UnifiedToy, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kit, job = kit_and_job(toy, tmp_path, listener.getsockname()[1])
        unified = dataclasses.replace(toy.sites["one"].unified, rehearsal=toy.sites["two"].unified.captions)
        write_site_file(kit / "local" / "fedgram.toml", dataclasses.replace(toy.sites["one"], unified=unified))
        found = list(doctor.examine(doctor.visit(kit, job)))
    assert any(check == "data" and "rehearsal: 12 captions" in f.text for check, f in found)


def test_a_job_for_another_modality_is_found(toy: unified_toy.UnifiedToy, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kit, job = kit_and_job(toy, tmp_path, listener.getsockname()[1])
        path = job / "one" / "config" / "config_fed_client.json"
        content = json.loads(path.read_text())
        content["executors"][0]["executor"] = {"path": CLIENT_CLASSES[0], "args": {"modality": "image"}}
        write_json(path, content)
        found = list(doctor.examine(doctor.visit(kit, job)))
    assert any(f.level == "failure" and "modality 'unified'" in f.text for _, f in found)


def test_missing_captions_are_found(toy: unified_toy.UnifiedToy, tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kit, job = kit_and_job(toy, tmp_path, listener.getsockname()[1])
        unified = dataclasses.replace(toy.sites["one"].unified, captions=str(tmp_path / "none.jsonl"))
        write_site_file(kit / "local" / "fedgram.toml", dataclasses.replace(toy.sites["one"], unified=unified))
        found = list(doctor.examine(doctor.visit(kit, job)))
    assert any(check == "data" and f.level == "failure" for check, f in found)
