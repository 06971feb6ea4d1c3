"""The demo's sites with few labels: dealt as promised, disjoint, and the same again."""

from __future__ import annotations

import dataclasses
import runpy
from collections import Counter
from pathlib import Path

import pytest
from fedgram import modalities
from fedgram.config.job import JobConfig
from fedgram.config.jobfolder import client_names
from fedgram.config.site import SiteConfig, find_site_config
from fedgram.config.strict import from_dict
from fedgram.demo.names import locate, resolve
from fedgram.errors import DataError
from fedgram.flare import jobs
from fedgram.records import Sample
from fedgram.sites.samples import read_samples, split_samples
from fedgram.sites.single import open_single
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession
from toy import ROOT

LOCAL = ROOT / "provisioning/simulator-few/local"
NAMES = client_names(ROOT / "jobs/few-labels")
CONFIGS = {name: find_site_config(LOCAL, name) for name in NAMES}
KINDS = sorted({config.modality for config in CONFIGS.values()})
SHOTS, TESTED = 4, 20

Parts = dict[str, list[Sample]]


def read(name: str, config: SiteConfig, cache: Path) -> Parts:
    """The samples of a site by split, read as a run reads them."""
    here = resolve(dataclasses.replace(config, cache=str(cache)))
    return split_samples(name, read_samples(here, modalities.load(config.modality)), ())


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parts]:
    cache = tmp_path_factory.mktemp("cache")
    return {name: read(name, config, cache) for name, config in CONFIGS.items()}


def of(kind: str, sites: dict[str, Parts]) -> list[Parts]:
    return [sites[name] for name, config in CONFIGS.items() if config.modality == kind]


def test_every_file_of_the_workspace_is_a_site_of_the_job():
    assert sorted(path.stem for path in (LOCAL / "fedgram").glob("*.toml")) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_site_has_as_many_labels_as_promised(name: str, sites: dict[str, Parts]):
    classes = Counter(s.target for s in sites[name]["train"])
    assert len(classes) >= 2
    assert set(classes.values()) == {SHOTS}
    assert Counter(s.target for s in sites[name]["validation"]) == classes
    assert {s.target for s in sites[name]["test"]} == set(classes)


@pytest.mark.parametrize("kind", KINDS)
def test_every_class_is_tested_on_enough_samples(kind: str, sites: dict[str, Parts]):
    tested = Counter(s.target for parts in of(kind, sites) for s in parts["test"])
    assert min(tested.values()) >= TESTED


@pytest.mark.parametrize("kind", KINDS)
def test_no_sample_is_at_two_sites_and_no_group_on_two_sides(kind: str, sites: dict[str, Parts]):
    ids = [s.id for parts in of(kind, sites) for samples in parts.values() for s in samples]
    assert len(ids) == len(set(ids))
    sides: dict[str, set[str]] = {}
    for parts in of(kind, sites):
        for part, samples in parts.items():
            for sample in samples:
                sides.setdefault(sample.group, set()).add(part)
    assert {group for group, found in sides.items() if len(found) > 1} == set()


def test_what_is_committed_is_what_the_script_deals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.argv", ["deal_few.py", "--output", str(tmp_path / "few.csv")])
    runpy.run_path(str(ROOT / "anchors/deal_few.py"), run_name="__main__")
    committed = ROOT / "custom/fedgram/demo/carnivora/few.csv"
    assert (tmp_path / "few.csv").read_bytes() == committed.read_bytes()


def test_a_site_that_was_not_dealt_anything(tmp_path: Path):
    with pytest.raises(DataError, match="demo:carnivora/few/image-1"):
        locate("demo:carnivora/few/image-9", tmp_path)


@pytest.mark.slow
def test_the_image_sites_are_a_group_and_every_site_settles(tmp_path: Path):
    plain = jobs.settings("few-labels")
    plain["training"] |= {"rounds": 2, "local_steps": 1}
    job = from_dict(JobConfig, plain, "few-labels")
    sites = {name: open_single(name, config, job) for name, config in CONFIGS.items()}
    groups = Counter(site.groups["head"] for site in sites.values())
    assert max(groups.values()) == len([c for c in CONFIGS.values() if c.modality == "image"])
    sessions = {name: SiteSession(site, tmp_path / name) for name, site in sites.items()}
    outcome = run_federation(sessions, job, tmp_path / "server")
    assert set(outcome.kept) == set(outcome.alone) == set(NAMES)
    assert all({"gain", "accuracy"} <= kept.metrics.keys() for kept in outcome.kept.values())
