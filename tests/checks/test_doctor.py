"""The doctor: a good kit passes, and every fault of a kit is found and comes with its remedy."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from examined import assert_one, examine, free_port, troubles
from fedgram.checks import doctor
from fedgram.checks.doctor import connection, kit, show, site
from fedgram.cli.console import console
from fedgram.cli.main import app
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import find_site_config
from fedgram.errors import ConfigError
from fedgram.flare import outbound
from fedgram.sites import guarantee
from fedgram.sites.budget import Budget
from kits import Authority, certify, edit_json, edit_site, site_kit, write_json
from paired_data import bridged
from rich.console import Console
from toy import Toy, write_site_file
from typer.testing import CliRunner

# Nothing wrong


def test_a_good_site_with_a_job(red: Path, job: Path):
    findings = examine(red, job)
    assert troubles(findings, "failure", "warning", "skipped") == []
    text = {name: finding.text for name, finding in findings}
    assert re.match(r"fedgram \S+, nvflare 2\.9\.0, .*torch", text["packages"])
    assert text["job"] == "job: 3 rounds of 4 steps over 'tiny', red here"
    assert "80 samples\nmoss: 14 train, 2 validation, 4 test of 20 groups\noak" in text["data"]
    assert re.search("12 of 12 slots; sha256 [0-9a-f]{64}", text["anchors"])
    assert text["tokenizer"] == "patches: 4 tokens of 16 numbers a sample"
    assert re.search(r"12 adapted layers; weights sha256 [0-9a-f]{64}", text["backbone"])


def test_a_good_site_without_a_job(red: Path):
    findings = examine(red)
    assert troubles(findings) == []
    assert [(name, f.text) for name, f in findings if f.level == "skipped"] == [
        ("job", "no job was named: `--job FOLDER` also checks one that was announced")
    ]
    assert "[backbones] tiny" in dict(findings)["backbone"].text


def test_a_good_server(hub: Path, job: Path):
    assert troubles(examine(hub, job), "failure", "warning", "skipped") == []
    assert troubles(examine(hub)) == []


def test_a_good_bridge_site(toy: Toy, red: Path, job: Path, tmp_path: Path):
    paired = bridged(toy, tmp_path / "paired").sites["red"]
    bridge = paired.bridge
    assert bridge is not None
    edit_site(red, data=paired.data)
    with (red / "local" / "fedgram.toml").open("a") as file:
        file.write(f'\n[bridge]\nmodality = "{bridge.modality}"\ndata = "{bridge.data}"\ntokenizer = "patches"\n')
    report = doctor.visit(red, job)
    findings = list(doctor.examine(report))
    assert troubles(findings, "failure", "warning", "skipped") == []
    assert "pairs with 'toy_modalities:BLUE': 1" in dict(findings)["data"].text
    assert [f.text for name, f in findings if name == "tokenizer"] == [
        "patches: 4 tokens of 16 numbers a sample",
        "patches: 4 tokens of 16 numbers a sample, paired",
    ]
    samples, pairs, anchors = 240, 238, 24
    assert site._token_bytes(report) == (samples + pairs + anchors) * 4 * (4 * 16 + 1)


def test_a_private_site(toy: Toy, red: Path, job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """What its promise amounts to stands there before the job, and what is left of the budget."""
    monkeypatch.setattr(guarantee, "noise_multiplier", lambda *_: 2.5)
    state = tmp_path / "state"
    bound = PrivacyConfig(epsilon=3.0, delta=1e-3)
    promised = replace(toy.sites["red"], privacy=bound, secret=None, state=str(state))
    write_site_file(red / "local/fedgram.toml", promised)
    findings = examine(red, job)
    assert troubles(findings, "failure", "warning", "skipped") == []
    text = dict(findings)["privacy"].text
    assert "(3, 0.001)-differential privacy of each group: clip 1, noise 2.5 × clip, sampling rate 0.3" in text
    assert "spent so far: ε 0 of 3" in text
    assert "the best round: the last one" in text
    budget = Budget("red", state / "red", bound)
    budget.charge("a", guarantee.Guarantee(3.0, 1e-3, 1.0, 0.5, 2.5, 12, 80), "b" * 64, 12)
    assert_one(examine(red, job), "privacy", "warning", "too little is left", "no other job")
    (state / "red" / "privacy.json").write_text("{")
    assert_one(examine(red, job), "privacy", "failure", "damaged", "backup")


def test_a_bridge_without_pairs(toy: Toy, red: Path, job: Path):
    with (red / "local" / "fedgram.toml").open("a") as file:
        data = toy.sites["red"].data + ".nowhere"
        file.write(f'\n[bridge]\nmodality = "text"\ndata = "{data}"\ntokenizer = "patches"\n')
    assert_one(examine(red, job), "data", "failure", "no such file", "correct the path")


def test_nothing_is_written(red: Path, hub: Path, job: Path):
    before = {folder: sorted(folder.rglob("*")) for folder in (red, hub, job)}
    examine(red, job)
    examine(hub, job)
    assert {folder: sorted(folder.rglob("*")) for folder in before} == before


def test_the_command(red: Path, job: Path):
    done = CliRunner().invoke(app, ["doctor", str(red), "--job", str(job)])
    assert done.exit_code == 0, done.output
    output = " ".join(done.output.split())
    assert "failure: 0, warning: 0, skipped: 0" in output
    assert "what will leave red, mode: plain" in output
    assert "12 layers, 1664 numbers:" in output  # 2 blocks × rank 4 × (4 × 32 + 48 + 32) rows
    assert re.search(r"in all [\d.]+ kB of tensors a round", output)
    assert "never leaves: samples, their names, labels and tokens" in output


def test_the_doctor_says_what_becomes_of_what_leaves_in_the_mode_that_a_site_demands(red: Path):
    config = find_site_config(red / "local", "red")
    write_site_file(red / "local" / "fedgram.toml", replace(config, require=("masked",)))
    visit, console = doctor.visit(red, None), Console(record=True, width=300)
    list(doctor.examine(visit))
    show.print_outbound(visit, console)
    shown = console.export_text()
    assert "mode: masked" in shown
    assert "│ ΔB (in a sum) " in shown
    assert "shares of the secrets of the masks" in shown


def test_the_doctor_counts_what_a_site_shares(red: Path, job: Path):
    config = find_site_config(red / "local", "red")
    write_site_file(red / "local" / "fedgram.toml", replace(config, share=("adapter", "head")))
    visit = doctor.visit(red, job)
    assert not troubles(list(doctor.examine(visit)))
    extent = show.extent_of(visit)
    assert extent is not None
    amount = outbound.amounts(extent)[outbound.SHARED]
    assert amount.text.startswith("4 tensors, 676 numbers")  # (32, 16) and 32, (4, 32) and 4
    assert amount.bytes == 2 * 676


def test_the_command_fails_when_a_check_does_and_makes_all_others(
    red: Path, job: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(console, "width", 300)  # where a line breaks depends on how long the path of the kit is
    (red / "local" / "fedgram.toml").unlink()
    (red / "startup" / "client.key").chmod(0o644)
    done = CliRunner().invoke(app, ["doctor", str(red), "--job", str(job)])
    assert done.exit_code == 1
    assert "no site file" in done.output
    assert "chmod 600" in done.output
    assert re.search(r"because 'site file'\s+failed", re.sub("[│ ]+", " ", done.output))


def test_no_kit(tmp_path: Path):
    done = CliRunner().invoke(app, ["doctor", str(tmp_path)])
    assert done.exit_code == 1
    assert "not the startup kit of a site or the server" in done.output


@pytest.mark.parametrize("content", [{}, {"servers": []}, {"servers": [{"service": {"target": "x:y"}}]}, []])
def test_a_kit_that_provisioning_did_not_write(tmp_path: Path, content: object):
    write_json(tmp_path / "startup" / "fed_client.json", content)
    with pytest.raises(ConfigError, match=r"(?s)fed_client\.json: not what.*remedy: restore it"):
        doctor.visit(tmp_path)


# Versions


def test_versions(red: Path, monkeypatch: pytest.MonkeyPatch):
    wanted = ["nvflare==1.0", "no-such-package>=3", 'torch>=99; extra == "demo"', "torch>=2"]
    monkeypatch.setattr(kit.metadata, "requires", lambda name: wanted)
    first, second = [f for name, f in troubles(examine(red), "failure") if name == "packages"]
    assert (first.text, first.remedy) == ("nvflare 2.9.0", "pip install 'nvflare==1.0'")
    assert second.text == "no-such-package is not installed"


def test_fedgram_itself_is_not_installed(red: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(kit, "_version", lambda name: None)
    assert_one(examine(red), "packages", "failure", "fedgram is not installed", "pip install")


# Certificates and the way to the server


def edit_security(red: Path, **changes: str) -> None:
    path = red / "startup" / "fed_client.json"
    edit_json(path, client=json.loads(path.read_text())["client"] | changes)


@pytest.mark.parametrize(
    ("mutate", "level", "text", "remedy"),
    [
        (lambda k: certify(k, "client", "red", Authority(), end=-0.5), "failure", "expired on", "renew"),
        (lambda k: certify(k, "client", "red", Authority(), end=20), "warning", "in (19|20) days", "renew"),
        (lambda k: certify(k, "client", "red", Authority(), start=1), "failure", "valid from", "clock"),
        (
            lambda k: certify(k, "client", "blue", Authority()),
            "failure",
            "that of blue, the kit that of red",
            "again",
        ),
        (
            lambda k: (k / "startup/rootCA.pem").write_bytes(
                (site_kit_of_another(k) / "startup/rootCA.pem").read_bytes()
            ),
            "failure",
            "foreign",
            "provisioned again",
        ),
        (
            lambda k: (k / "startup/client.key").write_bytes(
                (site_kit_of_another(k) / "startup/client.key").read_bytes()
            ),
            "failure",
            "client.key does not belong",
            "provisioned again",
        ),
        (
            lambda k: (k / "startup/client.crt").write_text("x"),
            "failure",
            "client.crt: not a certificate",
            "again",
        ),
        (
            lambda k: (k / "startup/client.key").write_text("x"),
            "failure",
            "client.key: not a private key",
            "again",
        ),
        (lambda k: (k / "startup/client.crt").unlink(), "failure", "client.crt: missing", "again"),
        (lambda k: (k / "startup/client.key").chmod(0o604), "failure", "read by everybody", "chmod 600"),
        (lambda k: edit_security(k, connection_security="tls"), "failure", "not both sides", "mtls"),
    ],
)
def test_certificates(red: Path, mutate: Callable[[Path], object], level: str, text: str, remedy: str):
    mutate(red)
    assert_one(examine(red), "certificates", level, text, remedy)


def site_kit_of_another(red: Path) -> Path:
    """Certificates of another federation, for the same name."""
    other = red.parent / "other"
    (other / "startup").mkdir(parents=True)
    certify(other, "client", "red", Authority("another"))
    return other


def test_a_server_that_does_not_answer(toy: Toy, tmp_path: Path):
    red = site_kit(toy, tmp_path, free_port())
    assert_one(examine(red), "server address", "warning", "does not answer", "firewall")


def test_a_server_that_nobody_knows(red: Path, monkeypatch: pytest.MonkeyPatch):
    def unknown(*arguments: object, **options: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(connection.socket, "create_connection", unknown)
    assert_one(examine(red), "server address", "warning", "no machine is known", "DNS")
