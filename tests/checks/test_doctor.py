"""The doctor: a good kit passes, and every fault is found and comes with its remedy."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fedgram.checks import doctor
from fedgram.checks.doctor import connection, kit, policy, room, server, show, site
from fedgram.checks.doctor.visit import Finding
from fedgram.cli.console import console
from fedgram.cli.main import app
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import find_site_config
from fedgram.errors import ConfigError, DataError
from fedgram.flare import components, outbound, privacy
from fedgram.flare.executors import SiteExecutor
from fedgram.flare.rejoin import Rejoin
from fedgram.sites import guarantee
from fedgram.sites.budget import Budget
from kits import (
    CLIENT_CLASSES,
    REJOIN,
    SERVER_CLASSES,
    Authority,
    certify,
    edit_json,
    edit_site,
    job_folder,
    server_kit,
    site_kit,
    write_json,
    write_policy,
)
from loopback import Federation, read_project
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer
from nvflare.fuel.utils.class_utils import instantiate_class
from nvflare.private.fed.utils.site_config import SITE_CONFIG_EXCLUDED_TOP_LEVEL_KEYS
from nvflare.security.security import COMMAND_CATEGORIES, CommandCategory
from paired_data import bridged
from rich.console import Console
from toy import ROOT, Toy, few_positions, write_site_file
from typer.testing import CliRunner

Mutation = Callable[[Path, Path], None]  # of a kit and a job folder


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


# The job


def edit_meta(job: Path, **changes: object) -> None:
    edit_json(job / "meta.json", **changes)


def edit_settings(job: Path, **changes: object) -> None:
    path = job / "app_server/config/config_fed_server.json"
    content = json.loads(path.read_text())
    content["workflows"][0]["args"]["job"] |= changes
    write_json(path, content)


@pytest.mark.parametrize(
    ("mutate", "text", "remedy"),
    [
        (lambda k, j: edit_meta(j, deploy_map={"app_server": ["server"]}), "no app for 'red'", "deploy_map"),
        (lambda k, j: (j / "meta.json").write_text("{"), "not JSON", "correct it"),
        (lambda k, j: (j / "meta.json").unlink(), "unreadable", "restore"),
        (lambda k, j: edit_meta(j, deploy_map=3), "not a job folder", "jobs/geodora"),
        (
            lambda k, j: edit_json(j / "app_server/config/config_fed_server.json", workflows=[]),
            "0 workflows of fedgram",
            "GramController",
        ),
        (lambda k, j: edit_settings(j, lambda_=1), "unknown setting 'lambda_'", "expected: anchors"),
        (lambda k, j: (j / "red/custom").mkdir(), "brings code of its own", "configuration only"),
        (
            lambda k, j: edit_meta(j, resource_spec={"red": {"num_of_gpus": 1, "mem_per_gpu_in_GiB": 8}}),
            "reserves 1 GPUs of 8 GiB, resources.json offers 0 of 0 GiB",
            "resource_manager in local/resources.json",
        ),
    ],
)
def test_jobs(red: Path, job: Path, mutate: Mutation, text: str, remedy: str):
    mutate(red, job)
    assert_one(examine(red, job), "job", "failure", text, remedy)


def test_a_job_of_more_gpus_than_there_are(red: Path, job: Path):
    edit_meta(job, resource_spec={"red": {"num_of_gpus": 2, "mem_per_gpu_in_GiB": 8}})
    offer = {"id": "resource_manager", "args": {"num_of_gpus": 1, "mem_per_gpu_in_GiB": 16}}
    edit_json(red / "local/resources.json", components=[offer])
    assert_one(examine(red, job), "job", "failure", "offers 1 of 16 GiB: the job would wait", "num_of_gpus")


def test_a_job_for_all_sites_and_gpus_that_are_there(red: Path, job: Path):
    deploy_map = {"app_server": ["server"], "red": ["@ALL"]}
    edit_meta(job, deploy_map=deploy_map, resource_spec={"red": {"num_of_gpus": 1, "mem_per_gpu_in_GiB": 8}})
    offer = {"id": "resource_manager", "args": {"num_of_gpus": 1, "mem_per_gpu_in_GiB": 16}}
    edit_json(red / "local/resources.json", components=[offer])
    assert troubles(examine(red, job)) == []


# What a job may do


@pytest.mark.parametrize(
    ("mutate", "text", "remedy"),
    [
        (
            lambda local: write_policy(local, (*CLIENT_CLASSES, "fedgram.")),
            r"'fedgram\.': a job may call",
            "each class",
        ),
        (
            lambda local: write_policy(local, (*CLIENT_CLASSES, "*")),
            r"'\*': a job may call anything",
            "each class",
        ),
        (lambda local: write_policy(local, (*CLIENT_CLASSES, "fedgram.flare")), "'fedgram.flare'", "each class"),
        (lambda local: write_policy(local, CLIENT_CLASSES[1:]), "SiteExecutor is not allowed", "add it to"),
        (lambda local: write_policy(local, CLIENT_CLASSES[:1]), "ConvertToFedEvent is not allowed", "add it to"),
        (
            lambda local: write_policy(local, CLIENT_CLASSES, class_list_enforcement_mode="warn"),
            "every class is let through",
            "'enforce' in local/resources.json",
        ),
        (lambda local: (local / "resources.json").unlink(), "unreadable", "restore it from the kit"),
        (lambda local: write_json(local / "resources.json", []), "list", "expected: a JSON object"),
    ],
)
@pytest.mark.parametrize("announced", [True, False])
def test_allow_list(
    red: Path, job: Path, mutate: Callable[[Path], object], text: str, remedy: str, announced: bool
):
    mutate(red / "local")
    found = [item for item in examine(red, job if announced else None) if item[0] == "allow list"]
    assert_one(found, "allow list", "failure", text, remedy)


def test_flares_default_list_is_found_wanting(red: Path):
    local = red / "local"
    (local / "resources.json").unlink()
    write_policy(local, tuple(DEFAULT_CLASS_ALLOW_LIST), allow_log_streaming=False)
    (local / "resources.json").rename(local / "resources.json.default")
    copied = r"local/resources\.json \(copy resources\.json\.default to it first\)"
    assert_one(examine(red), "allow list", "failure", "SiteExecutor is not allowed", copied)


def test_a_site_needs_the_executor_of_its_modality(red: Path):
    edit_site(red, modality="tabular")
    found = [item for item in examine(red) if item[0] == "allow list"]
    assert_one(found, "allow list", "failure", "TabularExecutor is not allowed", "add it")


def test_a_job_of_other_classes_than_the_site_allows(red: Path, job: Path):
    path = job / "red/config/config_fed_client.json"
    part = {"path": "a.b.Filter", "args": {"inner": {"class_path": "c.d.Part"}}}
    edit_json(path, task_result_filters=[{"tasks": ["*"], "filters": [part]}])
    text = [finding.text for _, finding in troubles(examine(red, job), "failure")]
    assert [line.split(" ")[0] for line in text] == ["a.b.Filter", "c.d.Part"]


def test_the_server_needs_its_own_classes(hub: Path):
    edit_json(hub / "local/resources.json", class_allow_list=[SERVER_CLASSES[1]])
    assert_one(examine(hub), "allow list", "failure", "GramController is not allowed", "add it to")


def test_the_named_classes_exist():
    assert f"{SiteExecutor.__module__}.{SiteExecutor.__qualname__}" == components.SITE_EXECUTOR
    assert f"{Rejoin.__module__}.{Rejoin.__qualname__}" == server.REJOIN
    assert f"{privacy.OnlyTheContract.__module__}.{privacy.OnlyTheContract.__qualname__}" == policy.GATE
    assert f"{privacy.TheTask.__module__}.{privacy.TheTask.__qualname__}" == policy.TASK
    for modality, path in components.EXECUTORS.items():
        executor = instantiate_class(path, {})
        assert isinstance(executor, SiteExecutor)
        assert executor.modality == modality


def test_entries_match_as_in_flare():
    """The rule is FLARE's own; nothing of its default list counts as broad."""
    names = ("fedgram.flare.executors.SiteExecutor", "fedgram.x.Y", "fedgrams.x.Y", "nvflare.Z")
    for entry in (*names, "fedgram.", "fedgram", "fedgram.flare.", "fedgram.flare.executors", "nv"):
        for name in names:
            assert policy._allows(entry, name) == ComponentPathAuthorizer._path_matches_prefix(name, entry)
    assert not any(map(policy._is_broad, DEFAULT_CLASS_ALLOW_LIST))
    assert all(
        map(policy._is_broad, ("*", "fedgram.", "fedgram", "fedgram.flare.executors", "fedgram.demo.names.locate"))
    )


def permissions(**roles: object) -> dict[str, object]:
    return {"format_version": "1.0", "permissions": roles}


@pytest.mark.parametrize(
    ("roles", "text", "remedy"),
    [
        ({"lead": {"byoc": "any"}}, "lets lead send code of their own", '"byoc": "none"'),
        ({"lead": {"byoc": ["o:site", "none"]}}, "lets lead send code", "restart FLARE"),
        ({"lead": {"cat": "any"}}, "lets lead run cat", '"shell_commands": "none" or "o:site" for'),
        ({"lead": {"get_job_log": "n:submitter"}}, "lets lead read the logs", '"get_job_log": "none" or "o:site"'),
        ({"lead": {"shell_commands": "any"}}, "lets lead run cat, grep and tail", '"shell_commands": "none"'),
    ],
)
def test_rights(red: Path, roles: dict[str, object], text: str, remedy: str):
    write_json(red / "local/authorization.json", permissions(**roles))
    assert_one(examine(red), "rights", "warning", text, remedy)


def test_a_role_with_every_right(red: Path):
    """As `project_admin` in FLARE's default."""
    write_json(red / "local/authorization.json", permissions(project_admin="any", member={"view": "any"}))
    assert [name for name, _ in troubles(examine(red))] == ["rights", "rights", "rights"]


def test_the_logs_of_the_server_are_no_sites_business(hub: Path):
    write_json(hub / "local/authorization.json", permissions(lead={"get_job_log": "any"}))
    assert troubles(examine(hub)) == []


def test_every_command_of_the_shell_is_watched():
    shell = {name for name, category in COMMAND_CATEGORIES.items() if category == CommandCategory.SHELL_COMMANDS}
    assert {CommandCategory.SHELL_COMMANDS, *shell} == set(policy._SHELL.names)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "no privacy.json"),
        ({"scopes": []}, "there is none"),
        (
            {"scopes": [{"name": "a", "task_result_filters": [{"path": policy.GATE}]}, {"name": "b"}]},
            "the gate: a, b$",
        ),
    ],
)
def test_privacy_gate(red: Path, content: object, text: str):
    path = red / "local/privacy.json"
    path.unlink() if content is None else write_json(path, content)
    assert_one(examine(red), "privacy gate", "warning", text, r"write local/privacy\.json.*restart FLARE")


@pytest.mark.parametrize("setting", [{"allow_log_streaming": True}, {}])
def test_log_streaming(red: Path, setting: dict[str, bool]):
    write_policy(red / "local", CLIENT_CLASSES, **setting)
    assert_one(examine(red), "log streaming", "warning", "error of any library could travel", "restart FLARE")


def test_what_flare_advertises():
    assert show.KEPT_BY_FLARE == SITE_CONFIG_EXCLUDED_TOP_LEVEL_KEYS


# The site file and what it names


def edit_data(red: Path, change: Callable[[str], str]) -> None:
    path = red / "data.csv"
    path.write_text(change(Path(find_site_config(red / "local", "red").data).read_text()))
    edit_site(red, data=str(path))


def without(concept: str, keep: int) -> Callable[[str], str]:
    """The table with only the first so many rows of a concept."""

    def change(table: str) -> str:
        lines = table.splitlines()
        rows = [line for line in lines if f",{concept}," in line]
        return "\n".join(line for line in lines if line not in rows[keep:]) + "\n"

    return change


def edited_anchors(red: Path, toy: Toy) -> None:
    shutil.copytree(toy.sites["red"].anchors, red / "anchors")
    (red / "anchors/red/0.csv").write_text("1,2")
    edit_site(red, anchors=str(red / "anchors"))


@pytest.mark.parametrize(
    ("mutate", "check", "text", "remedy"),
    [
        (lambda k, t: (k / "local/fedgram.toml").unlink(), "site file", "no site file", "site.example.toml"),
        (
            lambda k, t: (k / "local/fedgram.toml").write_text("device = 3"),
            "site file",
            "device: 3",
            "expected: str",
        ),
        (lambda k, t: edit_site(k, modality="no_such:X"), "site file", "cannot import", "install the package"),
        (
            lambda k, t: edit_site(k, modality="toy_modalities:BLUE"),
            "site file",
            "modality 'blue'",
            "'red', which the job has for red",
        ),
        (lambda k, t: edit_site(k, data="/nowhere.csv"), "data", "nowhere.csv: No such file", "correct the path"),
        (lambda k, t: edit_site(k, concepts=("oak", "elm")), "data", r"no sample of \['elm'\]", "expected: moss"),
        (lambda k, t: edit_site(k, concepts=("oak",)), "data", "1 class", "at least 2"),
        (lambda k, t: edited_anchors(k, t), "anchors", "edited anchor file", "fetch the anchor set again"),
        (
            lambda k, t: edit_site(k, anchors=t.sites["red"].heldout),
            "anchors",
            "another anchor set",
            "install the anchor set that the job names",
        ),
        (lambda k, t: edit_site(k, heldout=None), "held out anchors", "no held-out anchors", "name their folder"),
        (
            lambda k, t: edit_site(k, heldout=t.sites["red"].anchors),
            "held out anchors",
            "another anchor set",
            "install the anchor set",
        ),
        (lambda k, t: edit_site(k, device="cuda:99"), "device", "cuda:99", "auto, cpu, cuda, cuda:N or split"),
        (lambda k, t: edit_site(k, backbones={"tiny": "/no"}), "memory", "no folder /no", r"\[backbones\]"),
        (
            lambda k, t: edit_site(k, cache=str(k / "local/fedgram.toml/x")),
            "disk",
            "cannot be written",
            "give it to",
        ),
        (
            lambda k, t: edit_site(k, state=str(k / "local/fedgram.toml")),
            "disk",
            "state: .* cannot be written",
            "give it to the user",
        ),
    ],
)
def test_site(
    red: Path,
    job: Path,
    toy: Toy,
    mutate: Callable[[Path, Toy], None],
    check: str,
    text: str,
    remedy: str,
):
    mutate(red, toy)
    assert_one(examine(red, job), check, "failure", text, remedy)


def test_what_cannot_be_checked_says_why(red: Path, job: Path):
    edit_site(red, data="/nowhere.csv", device="cuda:99")
    skipped = {name: f.text for name, f in examine(red, job) if f.level == "skipped"}
    assert skipped == {
        "tokenizer": "because 'data' failed",
        "memory": "because 'device' failed",
        "backbone": "because 'memory' failed",
    }


def test_anchors_of_other_concepts(red: Path):
    edit_data(red, lambda s: re.sub("oak|pine|rye|moss", lambda m: m[0] + "s", s))
    assert_one(examine(red), "anchors", "warning", "none of the site's concepts", "label the data")


def test_few_samples(red: Path):
    edit_data(red, without("oak", keep=4))
    assert_one(examine(red), "data", "warning", "fewer than 10 training samples of oak", "add some")


def test_a_concept_that_is_never_tested(red: Path):
    edit_data(red, without("oak", keep=1))
    texts = [finding.text for _, finding in troubles(examine(red), "warning")]
    assert texts == ["fewer than 10 training samples of oak", "never tested: oak"]


def test_a_backbone_folder_without_a_model(red: Path):
    edit_site(red, backbones={"tiny": str(red / "nowhere")})
    assert_one(examine(red), "backbone", "failure", "no config.json", "correct 'tiny' under")


def test_a_backbone_that_cannot_be_adapted(red: Path, job: Path):
    edit_settings(job, adapter={"targets": ["no_such_layer"]})
    assert_one(examine(red, job), "backbone", "failure", "no adapter can be attached", "choose targets")


def test_more_tokens_than_the_backbone_has_positions(red: Path, job: Path, tmp_path: Path):
    edit_site(red, backbones={"tiny": str(few_positions(tmp_path))})
    assert_one(examine(red, job), "backbone", "failure", "4 tokens a sample", "at most 3, the positions")


def test_a_method_that_the_site_does_not_allow(red: Path, job: Path):
    edit_settings(job, method={"name": "creamfl"}, adapter={"dora": False})
    text, remedy = "which sends the representation of every public anchor", "add 'creamfl' to methods"
    assert_one(examine(red, job), "backbone", "failure", text, remedy)


def test_a_misspelt_method_in_the_site_file(red: Path):
    edit_site(red, methods=["geo", "creamfi"])
    found = examine(red)
    assert_one(found, "site file", "failure", "unknown method 'creamfi'", "did you mean 'creamfl'?")


def test_a_method_of_another_package_needs_the_servers_leave(hub: Path, job: Path):
    edit_settings(job, method={"name": "nowhere:Mine"})
    text, remedy = "runs method 'nowhere:Mine', which is foreign code", "add 'nowhere:Mine' to methods there"
    assert_one(examine(hub, job), "server file", "failure", text, remedy)
    (hub / "local/fedgram").mkdir(exist_ok=True)
    (hub / "local/fedgram/server.toml").write_text('methods = ["nowhere:Mine"]')
    assert_one(examine(hub, job), "server file", "failure", "cannot import 'nowhere:Mine'", "install the package")


class Encoder:
    """A tokenizer with one fault."""

    identity, width = "faulty", 4

    def __init__(self, fault: str):
        self.fault = fault

    def __call__(self, contents: object) -> object:
        if self.fault == "crash":
            raise RuntimeError("the patient's name is CANARY")
        from fedgram.records import Tokens

        return Tokens(torch.full((1, 2, 4), float("nan")), torch.ones(1, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("fault", "text", "remedy"),
    [
        ("nan", "not finite", "use another"),
        ("crash", r"^RuntimeError at test_doctor\.py:\d+$", "unforeseen"),
    ],
)
def test_tokenizers(red: Path, monkeypatch: pytest.MonkeyPatch, fault: str, text: str, remedy: str):
    import toy_modalities

    monkeypatch.setattr(type(toy_modalities.RED), "tokenizer", lambda self, name, fit_on: Encoder(fault))
    findings = examine(red)
    assert_one(findings, "tokenizer", "failure", text, remedy)
    assert "CANARY" not in repr(findings)


def test_anchors_that_the_modality_cannot_read(red: Path, monkeypatch: pytest.MonkeyPatch):
    import toy_modalities

    def refuse(self: object, path: Path) -> None:
        raise DataError("not a signal", where=path.name, remedy="take it out")

    monkeypatch.setattr(type(toy_modalities.RED), "read_anchor", refuse)
    first, second = troubles(examine(red), "failure")
    assert (first[0], second[0]) == ("anchors", "held out anchors")
    assert (first[1].text, first[1].remedy) == ("0.csv: not a signal", "take it out")


def test_a_file_of_somebody_else(red: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(kit: object, key: str) -> None:
        raise PermissionError(13, "Permission denied", "/kit/client.key")

    monkeypatch.setattr(connection, "_path", refuse)
    assert_one(examine(red), "certificates", "failure", "/kit/client.key: this user may not", "as the user")


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


# The server's machine


def test_storage_that_a_reboot_empties(hub: Path):
    jobs = {"id": "job_manager", "args": {"uri_root": "/tmp/nvflare/jobs-storage"}}
    edit_json(hub / "local/resources.json", components=[jobs, REJOIN])
    assert_one(examine(hub), "storage", "warning", "lost at a reboot", "in local/resources.json")


def test_storage_that_nobody_named(hub: Path):
    edit_json(hub / "local/resources.json", components=[REJOIN])
    assert_one(examine(hub), "storage", "failure", "no folder for FLARE's jobs", "name one")


def test_storage_that_cannot_be_written(hub: Path):
    jobs = {"id": "job_manager", "args": {"uri_root": str(hub / "local/resources.json/jobs")}}
    edit_json(hub / "local/resources.json", components=[jobs, REJOIN])
    assert_one(examine(hub), "storage", "failure", r"jobs: .*resources\.json cannot be written", "make .*/jobs")


def test_a_server_that_a_lost_site_stops(hub: Path):
    (rest,) = json.loads((hub / "local/resources.json").read_text())["components"][:1]
    edit_json(hub / "local/resources.json", components=[rest])
    assert_one(examine(hub), "rejoin", "warning", "one site's process dies", r'add \{"id": "rejoin".*restart')


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
