"""The doctor on the machine of a site and of the server, and on kits as they are provisioned."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from examined import assert_one, examine, troubles
from fedgram.checks import doctor
from fedgram.checks.doctor import room, server, site
from kits import GATE, REJOIN, edit_json, edit_site, server_kit
from loopback import Federation, read_project
from toy import ROOT

# The machine


def test_more_threads_than_cores(red: Path):
    edit_site(red, threads=4096)
    assert_one(examine(red), "device", "warning", "4096 threads on", "lower threads")


def test_memory(red: Path, job: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site, "free_memory", lambda: 10_000)
    assert_one(examine(red, job), "memory", "failure", "10.0 kB free, .* needed", "close other programs")


def test_a_gpu(red: Path, job: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(site, "choose_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: including_emulation)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 10**12))
    edit_site(red, precision="bf16")
    findings = examine(red, job)
    assert_one(findings, "device", "warning", "only emulates bf16", "fp32")
    assert_one(findings, "memory", "failure", "memory of cuda for weights: 1.0 kB free", "close other programs")


@pytest.mark.parametrize(("limit", "free"), [("max", 5000), ("3000", 1000), ("90000", 5000), (None, 5000)])
def test_the_memory_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, free: int):
    if limit is not None:
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.current").write_text("2000\n")
    monkeypatch.setattr(room, "_CGROUP", tmp_path)
    monkeypatch.setattr(room.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 5000}))
    assert room.free_memory() == free


@pytest.mark.parametrize(("share", "level"), [(0.5, "failure"), (1.5, "warning"), (2.5, "ok")])
def test_room(share: float, level: str):
    finding = room.enough("disk", free=int(share * 1000), needed=1000, remedy="make room")
    assert (finding.level, bool(finding.remedy)) == (level, level != "ok")


def test_a_folder_of_somebody_else(red: Path, monkeypatch: pytest.MonkeyPatch):
    """Root may write everywhere, so the system's answer is replaced."""
    monkeypatch.setattr(room.os, "access", lambda path, mode: False)
    texts = [(name, f.text) for name, f in troubles(examine(red), "failure")]
    assert texts[0] == ("disk", f"token cache: {red} cannot be written by this user")
    assert len(texts) == 2


def test_a_full_disk(red: Path, job: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(room.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10}))
    found = troubles(examine(red, job), "failure")
    assert [name for name, _ in found] == ["disk", "disk"]
    assert found[0][1].text.startswith("token cache in ")
    assert "10 bytes free, 27.0 kB needed" in found[0][1].text  # 80 samples, 24 anchors; 4 × (4 × 16 + 1) bytes
    assert found[0][1].remedy == "make room, or name a folder on another disk"


@pytest.mark.parametrize("kit", ["red", "hub"])
def test_a_folder_that_flare_starts_no_job_from(kit: str, request: pytest.FixtureRequest):
    folder: Path = request.getfixturevalue(kit)
    moved = folder.rename(folder.with_name("Radiology Data"))
    assert ("place", "failure") in [(name, f.level) for name, f in troubles(examine(moved), "failure")]


# The server's machine


def test_storage_that_a_reboot_empties(hub: Path):
    jobs = {"id": "job_manager", "args": {"uri_root": "/tmp/nvflare/jobs-storage"}}
    edit_json(hub / "local/resources.json", components=[jobs, REJOIN, GATE])
    assert_one(examine(hub), "storage", "warning", "lost at a reboot", "in local/resources.json")


def test_storage_that_nobody_named(hub: Path):
    edit_json(hub / "local/resources.json", components=[REJOIN, GATE])
    assert_one(examine(hub), "storage", "failure", "no folder for FLARE's jobs", "name one")


def test_storage_that_cannot_be_written(hub: Path):
    jobs = {"id": "job_manager", "args": {"uri_root": str(hub / "local/resources.json/jobs")}}
    edit_json(hub / "local/resources.json", components=[jobs, REJOIN, GATE])
    assert_one(examine(hub), "storage", "failure", r"jobs: .*resources\.json cannot be written", "make .*/jobs")


def test_a_server_that_a_lost_site_stops(hub: Path):
    (rest,) = json.loads((hub / "local/resources.json").read_text())["components"][:1]
    edit_json(hub / "local/resources.json", components=[rest, GATE])
    assert_one(examine(hub), "rejoin", "warning", "one site's process dies", r'add \{"id": "rejoin".*restart')


def test_a_server_through_which_sites_reach_each_other(hub: Path):
    (rest,) = json.loads((hub / "local/resources.json").read_text())["components"][:1]
    edit_json(hub / "local/resources.json", components=[rest, REJOIN])
    assert_one(examine(hub), "gate", "warning", "end other sites' jobs", r'add \{"id": "gate".*restart')


def test_the_servers_own_file(hub: Path):
    (hub / "local/fedgram").mkdir()
    (hub / "local/fedgram/server.toml").write_text("stat = 1")
    assert_one(examine(hub), "server file", "failure", "unknown setting 'stat'", "did you mean 'state'")


@pytest.fixture
def running(hub: Path) -> Iterator[int]:
    """A process that looks like the server of the kit."""
    command = [sys.executable, "-c", "input()", server._PARENT, "-m", str(hub)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        yield process.pid
        process.kill()


def test_the_port_of_the_running_server(hub: Path, running: int):
    visit = doctor.visit(hub)
    with socket.create_server(("127.0.0.1", visit.kit.port)):
        assert f"served by this kit's server, process {running}" in dict(doctor.examine(visit))["ports"].text


def test_a_running_server_that_does_not_answer(hub: Path, running: int):
    assert_one(examine(hub), "ports", "warning", rf"process {running}\) but does not answer", "log.txt")


def test_the_server_of_another_kit(tmp_path: Path, running: int, listening: int):
    other = server_kit(tmp_path / "other", listening)
    assert_one(examine(other), "ports", "failure", f"port {listening} is taken, and not by", "ss -ltnp")


# Kits as they are provisioned


def test_provisioned_kits(tmp_path: Path):
    """Nothing is wrong with the kits of provisioning/ once the site's file is there; the server is not up yet."""
    federation = Federation.provision(tmp_path, read_project())
    kit = federation.kit("hosp-tabular")
    shutil.copy(ROOT / "provisioning/simulator/local/fedgram/hosp-tabular.toml", kit / "local/fedgram.toml")
    job = ROOT / "jobs/geodora"
    assert troubles(examine(federation.kit(federation.server), job), "failure", "warning", "skipped") == []
    found = [(name, f.level) for name, f in troubles(examine(kit, job), "failure", "warning", "skipped")]
    assert found == [("server address", "warning"), ("data", "warning")]  # few animals
