"""What must not happen, tried on a running federation: foreign connections, foreign code, paths, leaks."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import struct
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import simulator
import torch
from fedgram.flare import ledger
from fedgram.records import SiteEvaluation, SiteIntroduction, SiteUpdate
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession
from loopback import Federation
from safetensors.torch import load_file
from torch import Tensor
from toy import LENGTH, Toy

from federation.federation import HONEST, provision

pytestmark = pytest.mark.federation

CANARY = "Zaphod-Beeblebrox-1952"  # stands for whatever must not leave: a name in ids, groups, labels, values


def with_private_text(toy: Toy, folder: Path) -> Toy:
    """The toy, with names of patients in red's data, and in green's a value that no reader can digest."""
    folder.mkdir()
    lines = (toy.root / "red.csv").read_text().splitlines()
    for number in range(1, len(lines)):
        _, concept, group, values = lines[number].split(",", 3)
        concept = f"{CANARY}-label" if number % 9 == 0 else concept
        lines[number] = f"{CANARY}-{number},{concept},{CANARY}-{group},{values}"
    (folder / "red.csv").write_text("\n".join(lines) + "\n")
    green = (toy.root / "green.csv").read_text().splitlines()
    head, last = green[4].rsplit(",", 1)
    green[4] = f"{head},{CANARY}{last}"
    (folder / "green.csv").write_text("\n".join(green) + "\n")
    changed = {name: replace(toy.sites[name], data=str(folder / f"{name}.csv")) for name in ("red", "green")}
    changed["red"] = replace(changed["red"], share=("concepts",))
    return replace(toy, sites=toy.sites | changed)


@pytest.fixture(scope="module")
def federation(toy: Toy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Three sites, of which green cannot read its data; every frame that a site's process sends is copied."""
    folder = tmp_path_factory.mktemp("security")
    made = provision(with_private_text(toy, folder / "data"), folder)
    wiretap = Path(__file__).parent / "wiretap"
    (folder / "frames").mkdir()
    made.environment = {
        **made.environment,
        "PYTHONPATH": os.pathsep.join([str(wiretap), made.environment["PYTHONPATH"]]),
    }
    try:
        made.start(made.server)
        for site in made.sites:
            (folder / "frames" / site).mkdir()
            made.environment = {**made.environment, "FEDGRAM_WIRETAP": str(folder / "frames" / site)}
            made.start(site)
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def ran(federation: Federation) -> Path:
    """The folder of the federation after the toy's job has run on it."""
    folder = federation.kits.parents[2]
    job = federation.submit(folder / "job")
    assert federation.wait(job) == "FINISHED:COMPLETED", federation.output(federation.server)[-3000:]
    federation.download(job, folder / "download")
    return folder


def job_with(folder: Path, tmp_path: Path, executor: dict[str, Any]) -> Path:
    """The toy's job with another executor at red."""
    job = shutil.copytree(folder / "job", tmp_path / "job")
    path = job / "app_red/config/config_fed_client.json"
    config = json.loads(path.read_text())
    config["executors"][0]["executor"] = executor
    simulator.write_json(path, config)
    return job


# --- connections


def answer(port: int, certificate: Path | None, key: Path | None) -> bytes:
    """What the server sends to a client that speaks HTTP/2 over TLS; empty when it hangs up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    if certificate is not None and key is not None:
        context.load_cert_chain(certificate, key)
    with socket.create_connection(("127.0.0.1", port), timeout=10) as raw:
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as connection:
                connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]))
                return connection.recv(64)
        except (ssl.SSLError, ConnectionError):
            return b""


def test_no_connection_without_a_certificate_or_with_a_foreign_one(
    toy: Toy, federation: Federation, tmp_path: Path
):
    settings = json.loads((federation.kit("red") / "startup/fed_client.json").read_text())
    port = int(settings["servers"][0]["service"]["target"].rsplit(":", 1)[1])
    own = federation.kit("red") / "startup"
    foreign = provision(toy, tmp_path / "foreign", {"red": HONEST["red"]}).kit("red") / "startup"
    assert answer(port, own / "client.crt", own / "client.key") != b""
    assert answer(port, None, None) == b""
    assert answer(port, foreign / "client.crt", foreign / "client.key") == b""


# --- code and paths


def test_a_job_with_custom_code_is_refused(federation: Federation, tmp_path: Path):
    job = shutil.copytree(federation.kits.parents[2] / "job", tmp_path / "job")
    ran = tmp_path / "ran"
    (job / "app_red/custom").mkdir()
    (job / "app_red/custom/evil.py").write_text(f"open({str(ran)!r}, 'w').close()\n")
    submitted = federation.submit(job)
    assert federation.wait(submitted) != "FINISHED:COMPLETED"
    assert "BYOC not permitted" in json.dumps(federation.meta(submitted))
    assert not ran.exists()


def test_a_job_with_a_class_outside_the_allow_list_is_refused(federation: Federation, tmp_path: Path):
    """Without code of its own, and with a function of the package itself: FLARE calls whatever a path names."""
    written = tmp_path / "written"
    executor = {"path": "fedgram.files.write_text", "args": {"path": str(written), "text": "by a job"}}
    submitted = federation.submit(job_with(federation.kits.parents[2], tmp_path, executor))
    assert federation.wait(submitted) != "FINISHED:COMPLETED"
    assert "'fedgram.files.write_text' at config path" in federation.output("red")
    assert not written.exists()


def test_a_job_cannot_tell_a_site_where_to_look(federation: Federation, tmp_path: Path):
    """The executors take a modality and nothing else, however a job words it."""
    executor = {
        "path": "fedgram.flare.executors.SiteExecutor",
        "args": {"modality": "red", "data": str(tmp_path), "local": str(tmp_path)},
    }
    submitted = federation.submit(job_with(federation.kits.parents[2], tmp_path, executor))
    assert federation.wait(submitted) != "FINISHED:COMPLETED"
    assert "unexpected keyword argument" in federation.output("red")


# --- what leaves a site


def frames(ran: Path, site: str) -> list[bytes]:
    """Every frame that the processes of a site have sent, in order within a process."""
    found = []
    for path in sorted((ran / "frames" / site).iterdir()):
        data, position = path.read_bytes(), 0
        while position < len(data):
            size = int.from_bytes(data[position : position + 4], "big")
            found.append(data[position + 4 : position + 4 + size])
            position += 4 + size
    return found


def replies(toy: Toy, folder: Path, site: str) -> dict[str, Tensor]:
    """Every tensor that the contract has the site send in this run: the plain loop says what they are."""
    found: dict[str, Tensor] = {}

    class Listening(SiteSession):
        def introduce(self):
            return self.heard("gram 0", super().introduce())

        def train(self, run, state):
            return self.heard(f"train {state.round + 1}", super().train(run, state))

        def alone(self, run):
            return self.heard("alone", super().alone(run))

        def evaluate(self, run, state):
            return self.heard("evaluate", super().evaluate(run, state))

        def settle(self, run, state, directory=None):
            return self.heard("settle", super().settle(run, state, directory))

        def heard(self, when, reply):
            if self.site.name == site:
                parts = {"gram": reply.gram}
                if isinstance(reply, SiteUpdate):
                    assert not reply.extra
                    parts |= {f"delta_B/{name}": value for name, value in reply.delta_B.items()}
                if isinstance(reply, SiteIntroduction | SiteUpdate):
                    parts |= {f"m/{name}": value for name, value in reply.m.items()}
                if isinstance(reply, SiteEvaluation):
                    parts |= {f"prototypes/{name}": value for name, value in reply.prototypes.items()}
                    parts |= {"token_gram": reply.token_gram}
                found.update({f"{when} {name}": value for name, value in parts.items()})
            return reply

    able = ("red", "blue")
    sessions = {name: Listening(toy.open(name), folder / name) for name in able}
    run_federation(sessions, toy.job, folder / "server")
    return found


def data_of(tensor: Tensor) -> bytes:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def floats(value: Any) -> list[float]:
    """Every float in plain nested data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in floats(item)]
    return [value] if isinstance(value, float) else []


def without(frame: bytes, known: Iterable[bytes]) -> bytes:
    """What is left of a frame when the known parts are cut out, the longest first."""
    for part in known:
        frame = frame.replace(part, b"")
    return frame


def test_what_leaves_is_recorded_byte_by_byte_and_is_the_documented_list(toy: Toy, ran: Path, tmp_path: Path):
    expected = replies(with_private_text(toy, tmp_path / "data"), tmp_path, "red")
    kit = next((ran / "federation").glob("*/prod_*/red"))
    lines = [json.loads(line) for line in (kit / "fedgram/red/sent.jsonl").read_text().splitlines()]
    recorded = {}
    for line in lines:
        when = f"{line['task']} {line['values']['round']}" if line["task"] == "train" else line["task"]
        when = "gram 0" if when == "gram" else when
        recorded |= {f"{when} {name}": entry for name, entry in line["tensors"].items()}
    assert recorded == {name: ledger.describe(tensor) for name, tensor in expected.items()}

    sent = frames(ran, "red")
    whole = b"".join(sent)
    for name, tensor in expected.items():
        assert data_of(tensor) in whole, name
    for line in lines:
        for number in floats(line["values"]):
            assert struct.pack(">d", number) in whole, line["task"]  # as msgpack has it
    known = sorted(map(data_of, expected.values()), key=len, reverse=True)
    rest = [without(frame, known) for frame in sent]
    # FLARE's envelope: names, numbers, signatures; 7105 bytes around an update and 1350 on average, as seen
    assert max(map(len, rest)) < 8000
    assert sum(map(len, rest)) / len(rest) < 2000


def private_bytes(toy: Toy, ran: Path) -> dict[str, bytes]:
    """Things of red's and green's that no message and no log may hold."""
    kit = next((ran / "federation").glob("*/prod_*/red"))
    local = load_file(kit / "fedgram/red/result/local.safetensors")
    row = pd.read_csv(toy.root / "red.csv").iloc[0, -LENGTH:].to_numpy("float32")
    return {
        "a name": CANARY.encode(),
        "a row of data": row[:4].tobytes(),
        "the adapter": data_of(local["local/adapter.linear.weight"])[:32],
        "the head": data_of(next(v for k, v in local.items() if "head" in k and v.numel() > 8))[:32],
        "a path": str(ran / "data").encode(),
    }


def test_nothing_private_reaches_the_server(toy: Toy, ran: Path):
    """Neither in what the sites send nor in anything that the server keeps: logs, jobs, results, metrics."""
    private = private_bytes(toy, ran)
    sent = b"".join(b"".join(frames(ran, site)) for site in ("red", "green"))
    assert b"hosp" in sent or b"red" in sent
    kept = [path for path in next((ran / "federation").glob("*/prod_*/localhost")).rglob("*") if path.is_file()]
    kept += [next((ran / "federation").glob("*/prod_*/localhost.out"))]
    kept += [path for path in (ran / "download").rglob("*") if path.is_file()]
    assert len(kept) > 20
    for what, data in private.items():
        assert data not in sent, f"{what} was sent"
        for path in kept:
            assert data not in path.read_bytes(), f"{what} is in {path}"


def test_the_site_itself_can_see_what_went_wrong(ran: Path):
    """The other side of the test above: the text that must not travel is in green's own log."""
    kit = next((ran / "federation").glob("*/prod_*/green"))
    assert CANARY in (kit / "fedgram/green/log.txt").read_text()
    records = json.loads((ran / "download/workspace/fedgram/metrics.json").read_text())
    assert set(records["rounds"][0]["shares"]) == {"red", "blue"}
