"""Settings: strict, with the range in the message, and the shipped jobs are valid and pinned."""

from __future__ import annotations

import dataclasses
import json
import re
import tomllib
from pathlib import Path

import pytest
from fedgram.anchors import load_anchors
from fedgram.config.job import JobConfig
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.server import read_server_config
from fedgram.config.site import BridgeConfig, Columns, SiteConfig, read_site_config
from fedgram.config.strict import from_dict, to_dict
from fedgram.config.unified import UnifiedConfig
from fedgram.errors import ConfigError
from toy import ROOT

PLAIN = {"anchors": {"sha256": "0" * 64, "concepts": ["a", "a", "b", "b"]}}
JOBS = sorted(path.parent for path in (ROOT / "jobs").glob("*/meta.json"))
BRIDGE = '[bridge]\nmodality = "text"\ndata = "/d"\ntokenizer = "t"'
PATHS = ("a/b/c", "a/..", "../b", ".", "~/b", "a\\b", "C:\\b", "a/b\n", "", "a b", "file://a", "-a", "ä/b")


def build(**changes: object) -> JobConfig:
    return from_dict(JobConfig, {**PLAIN, **changes}, "job")


def test_round_trip_and_fingerprint():
    job = build(training={"rounds": 3})
    assert from_dict(JobConfig, to_dict(job), "job") == job
    assert json.loads(json.dumps(to_dict(job))) == to_dict(job)
    assert job.fingerprint() == build(training={"rounds": 3}).fingerprint() != build().fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"traning": {}}, "did you mean 'training'"),
        ({"training": {"rounds": 0}}, r"training\.rounds: 0"),
        ({"training": {"rounds": 2.5}}, "rounds: 2.5"),
        ({"training": {"rounds": True}}, "rounds: True"),
        ({"training": {"learning_rate": -1}}, r"training\.learning_rate: -1"),
        ({"training": {"cka": "best"}}, r"paper \| centered \| debiased"),
        ({"training": 3}, "expected: a table of settings"),
        ({"adapter": {"rank": 0}}, r"adapter\.rank"),
        ({"adapter": {"alpha": 0}}, r"adapter\.alpha"),
        ({"adapter": {"targets": []}}, r"adapter\.targets"),
        ({"adapter": {"targets": "query"}}, "targets: 'query'"),
        ({"adapter": {"magnitude": "secret"}}, r"private \| mean"),
        ({"aggregation": {"weights": "mine"}}, r"precision \| samples \| uniform"),
        ({"aggregation": {"u_min": 0}}, r"aggregation\.u_min"),
        ({"aggregation": {"max_share": 1.5}}, r"aggregation\.max_share"),
        ({"aggregation": {"server_momentum": 1}}, r"aggregation\.server_momentum"),
        ({"aggregation": {"min_sites": 0}}, r"aggregation\.min_sites"),
        ({"aggregation": {"deadline_seconds": -1}}, r"aggregation\.deadline_seconds"),
        ({"backbone": {"name": "/etc/passwd"}}, "cannot name a path at a site"),
        ({"backbone": {"name": "../weights"}}, "cannot name a path at a site"),
        *(
            ({"backbone": {"name": name}}, "cannot name a path at a site")
            for name in (
                "a/b/c",
                "a/..",
                "../b",
                ".",
                "~/b",
                "a\\b",
                "C:\\b",
                "a/b\n",
                "",
                "a b",
                "file://a",
                "-a",
                "ä/b",
            )
        ),
        ({"backbone": {"layers": 0}}, r"backbone\.layers"),
        ({"anchors": {"sha256": "abc", "concepts": ["a"] * 4}}, "64 hexadecimal digits"),
        ({"anchors": {"sha256": "0" * 64, "concepts": ["a"] * 3}}, "at least 4 slots"),
        ({"anchors": {"sha256": "0" * 64}}, "missing setting 'concepts'"),
        ({"task": "classification"}, "unknown setting 'task'"),
    ],
)
def test_a_wrong_setting_is_named_with_what_would_be_right(changes: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        build(**changes)


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_shipped_jobs_are_valid_and_pin_the_shipped_anchors(job: Path):
    server = json.loads((job / "app_server/config/config_fed_server.json").read_text())
    config = from_dict(JobConfig, server["workflows"][0]["args"]["job"], str(job))
    for pin, part in ((config.anchors, "train"), (config.heldout, "heldout")):
        anchors = load_anchors(ROOT / "anchors" / ("scenes" if "fedumm" in job.name else "carnivora") / part)
        assert pin is not None
        assert pin.sha256 == anchors.manifest_sha256
        assert pin.concepts == tuple(slot.concept for slot in anchors.slots)
    assert config.adapter.dora == (job.name == "geodora")


@pytest.mark.parametrize("job", JOBS, ids=lambda path: path.name)
def test_shipped_jobs_are_configuration_only(job: Path):
    assert {path.suffix for path in job.rglob("*") if path.is_file()} == {".json"}
    sites = [s for names in json.loads((job / "meta.json").read_text())["deploy_map"].values() for s in names]
    workspace = {
        "fedumm": "simulator-fedumm",
        "fedumm-mixed": "simulator-fedumm",
        "few-labels": "simulator-few",
    }.get(job.name, "simulator")
    files = {path.stem for path in (ROOT / "provisioning" / workspace / "local/fedgram").glob("*.toml")}
    assert set(sites) <= files | {"server"}
    assert "fedumm" in job.name or set(sites) == files | {"server"}


def test_site_files_that_we_ship_can_be_read(tmp_path: Path):
    for path in (ROOT / "provisioning").rglob("*.toml"):
        assert read_site_config(path).modality
    example, private = (ROOT / "provisioning/site.example.toml").read_text().split("# [privacy]")
    everything = re.sub(r"^# (?!targets)(\w+ = |\[|\")", r"\1", example, flags=re.MULTILINE)
    (tmp_path / "all.toml").write_text(everything)
    config = read_site_config(tmp_path / "all.toml")
    assert config.concepts == ("Canidae", "Felidae")
    assert config.backbones
    assert config.columns.categories == ("stage",)
    listed = {"unified", "privacy", *tomllib.loads(everything)}
    assert listed == {f.name for f in dataclasses.fields(SiteConfig)}
    settings = tomllib.loads(re.sub(r"^# ", "", private.partition("\n")[2], flags=re.MULTILINE))
    assert from_dict(PrivacyConfig, settings, "example").total == 9.0
    assert settings.keys() == {f.name for f in dataclasses.fields(PrivacyConfig)}
    assert {"targets", *tomllib.loads(everything)["columns"]} == {f.name for f in dataclasses.fields(Columns)}
    assert set(tomllib.loads(everything)["bridge"]) == {f.name for f in dataclasses.fields(BridgeConfig)}
    example = (ROOT / "provisioning/unified.example.toml").read_text()
    unified = re.sub(r"^# (\w+ = )", r"\1", example, flags=re.MULTILINE)
    (tmp_path / "unified.toml").write_text(unified)
    assert read_site_config(tmp_path / "unified.toml").unified
    assert set(tomllib.loads(unified)["unified"]) == {f.name for f in dataclasses.fields(UnifiedConfig)}
    shown = config.bridge
    assert shown is not None
    assert (shown.weight, shown.temperature) == (BridgeConfig.weight, BridgeConfig.temperature)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[columns]\nid = "nr"\ntokenizer = "minilm"', "(?s)'tokenizer' stands below.*above the first"),
        ('[columns]\ntaget = "nr"', "did you mean 'target'"),
        ('[columns]\ntarget = "a"\ntargets = ["b"]', "both target and targets"),
        ('[columns]\ntargets = ["b"]', "(?s)several targets.*multilabel"),
        ('task = "telepathy"', "segmentation"),
        ("window = [3, 2]", r"\[lowest, highest\]"),
        ("window = [3]", r"\[lowest, highest\]"),
        ('[bridge]\nmodality = "text"\ndata = "d"', "bridge: missing setting 'tokenizer'"),
        (f"{BRIDGE}\nweight = -0.1", r"bridge\.weight: -0\.1\n.*not negative"),
        (f"{BRIDGE}\nweight = inf", r"bridge: weight: inf"),
        (f"{BRIDGE}\nweight = nan", r"bridge: weight: nan"),
        (f"{BRIDGE}\ntemperature = 0", r"bridge\.temperature: 0\.0\n.*within 0\.01"),
        (f"{BRIDGE}\ntemperature = nan", r"bridge: temperature: nan"),
        (f"{BRIDGE}\nwindow = [3, 2]", r"bridge\.window"),
        (f"{BRIDGE}\nwieght = 1", "did you mean 'weight'"),
        (f"{BRIDGE}\nstate = 's'", r"(?s)'state' stands below \[bridge\].*above the first"),
        (f"{BRIDGE}\n[bridge.columns]\ncache = 's'", r"'cache' stands below \[columns\]"),
        ('state = "states/here"', "(?s)state is a relative path.*realpath"),
        ('labels = "labels.csv"', "labels is a relative path"),
        ('[backbones]\nsmall = "models/small"', "backbones: small is a relative path"),
        (BRIDGE.replace('"/d"', '"d"'), r"bridge\.data is a relative path"),
        (f'{BRIDGE}\nlabels = "l.csv"', r"bridge\.labels is a relative path"),
    ],
)
def test_wrong_site_files(text: str, message: str, tmp_path: Path):
    required = 'modality = "text"\ndata = "/a"\ntokenizer = "b"\nanchors = "demo:carnivora/anchors/train"\n'
    (tmp_path / "site.toml").write_text(f'{required}cache = "~/tokens"\n')
    assert read_site_config(tmp_path / "site.toml").tokenizer == "b"
    (tmp_path / "site.toml").write_text(required + text)
    with pytest.raises(ConfigError, match=message):
        read_site_config(tmp_path / "site.toml")


def test_the_server_file_is_optional_and_strict(tmp_path: Path):
    assert read_server_config(tmp_path / "server.toml").state is None
    (tmp_path / "server.toml").write_text('stat = "/data"')
    with pytest.raises(ConfigError, match="did you mean 'state'"):
        read_server_config(tmp_path / "server.toml")
    (tmp_path / "server.toml").write_text('state = "data"')
    with pytest.raises(ConfigError, match="state is a relative path"):
        read_server_config(tmp_path / "server.toml")


def test_site_files_as_editors_leave_them(tmp_path: Path):
    accents = (
        'concepts = ["Ba\u0308r"]\ndata = "/Ba\u0308r"\n[columns]\ngroup = "Fa\u0308lle"\ndrop = ["u\u0308"]\n'
    )
    required = 'modality = "text"\ntokenizer = "b"\nanchors = "/a"\n'
    (tmp_path / "site.toml").write_bytes(f"\ufeff{required}{accents}".replace("\n", "\r\n").encode())
    config = read_site_config(tmp_path / "site.toml")
    assert (config.concepts, config.columns.group, config.columns.drop) == (("Bär",), "Fälle", ("ü",))
    assert config.data == "/Ba\u0308r"  # as the disk has it
    assert build(anchors={"sha256": "0" * 64, "concepts": ["Ba\u0308r"] * 4}).anchors.concepts == ("Bär",) * 4
