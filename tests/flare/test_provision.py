"""The kits come out of provisioning locked down, and able to run the jobs that we ship."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import fedgram.flare.executors as executors
import pytest
import yaml
from fedgram.flare.provision import SERVER_CLASSES, SITE_CLASSES
from loopback import Federation, read_project
from nvflare.apis.executor import Executor
from nvflare.apis.fl_exception import UnsafeComponentError
from nvflare.apis.workspace import Workspace
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer
from nvflare.fuel.sec.authz import AuthzContext, Person
from nvflare.security.security import FLAuthorizer
from toy import ROOT


def allowed(kit: Path, name: str) -> bool:
    """Whether FLARE lets a job use a class at the owner of this kit."""
    try:
        ComponentPathAuthorizer().authorize_component_config({"path": name}, workspace=Workspace(str(kit)))
    except UnsafeComponentError:
        return False
    return True


@pytest.fixture(scope="module", params=["project.yml", "project.loopback.yml"])
def federation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        return Federation.provision(tmp_path_factory.mktemp("kits"), read_project(request.param))


def test_every_class_of_a_shipped_job_is_allowed_and_nothing_else_of_the_package(federation: Federation):
    server, site = federation.kit(federation.server), federation.kit("hosp-image")
    for config in ROOT.glob("jobs/*/app_*/config/*.json"):
        parts = json.loads(config.read_text())
        kit = server if "server" in config.name else site
        for part in [*parts.get("workflows", ()), *(e["executor"] for e in parts.get("executors", ()))]:
            assert allowed(kit, part["path"]), part["path"]
        for part in parts["components"]:
            assert allowed(kit, part["path"]), part["path"]
    for name in ("fedgram.files.write_text", "fedgram.config.site.find_site_config", "os.system"):
        assert not allowed(server, name)
        assert not allowed(site, name)
    assert not allowed(site, SERVER_CLASSES[0])
    assert not allowed(server, SITE_CLASSES[0])


def test_every_executor_is_listed_by_name():
    kinds = [name for name in vars(executors) if name.endswith("Executor") and name != Executor.__name__]
    named = {f"{executors.__name__}.{kind}" for kind in kinds}
    assert named == {name for name in SITE_CLASSES if name.startswith("fedgram.")}


def test_the_simulator_allows_the_same_classes():
    resources = json.loads((ROOT / "provisioning/simulator/local/resources.json").read_text())
    assert resources["class_allow_list"] == [*SITE_CLASSES, *SERVER_CLASSES]


@pytest.mark.parametrize("role", ["project_admin", "org_admin", "lead", "member"])
def test_nobody_brings_code_and_only_a_sites_own_people_read_its_files(federation: Federation, role: str):
    for name in (federation.server, *federation.sites):
        policy = json.loads((federation.kit(name) / "local/authorization.json").read_text())
        authorizer = FLAuthorizer("hospital", policy)

        def may(right: str, org: str, authorizer: FLAuthorizer = authorizer) -> bool:
            return authorizer.authorize(AuthzContext(right, Person("somebody", org, role)))[0]

        assert not may("byoc", "hospital")
        assert not may("cat", "hub")
        assert may("cat", "hospital") == (role == "org_admin")
        assert may("submit_job", "hub") == (role in ("project_admin", "lead"))
        at_server = name == federation.server
        assert may("get_job_log", "hub") == (at_server and role == "project_admin")


def test_logs_stay_at_a_site_and_the_server_keeps_its_jobs_out_of_tmp(federation: Federation):
    for site in federation.sites:
        local = federation.kit(site) / "local"
        assert json.loads((local / "resources.json").read_text())["allow_log_streaming"] is False
        assert json.loads((local / "privacy.json").read_text())["default_scope"] == "fedgram"
    text = (federation.kit(federation.server) / "local/resources.json").read_text()
    assert "/tmp/nvflare" not in text


def test_one_gpu_a_site_and_an_example_of_the_sites_file(federation: Federation):
    for site in federation.sites:
        local = federation.kit(site) / "local"
        components: list[dict[str, Any]] = json.loads((local / "resources.json").read_text())["components"]
        (manager,) = (c["args"] for c in components if c["id"] == "resource_manager")
        real = federation.server != "localhost"
        assert manager["num_of_gpus"] == (1 if real else 0)
        assert (local / "fedgram.toml.example").exists() == real


def test_both_variants_have_the_same_sites_and_the_same_builders():
    names = ("project.yml", "project.loopback.yml")
    real, loopback = (yaml.safe_load((ROOT / "provisioning" / name).read_text()) for name in names)
    sites = ["hosp-image", "hosp-text", "hosp-genomics", "hosp-tabular"]
    for variant in (real, loopback):
        assert [p["name"] for p in variant["participants"] if p["type"] == "client"] == sites
    assert [b["path"] for b in real["builders"]] == [b["path"] for b in loopback["builders"]]


def test_no_key_is_committed():
    marker = "PRIVATE" + " KEY-----"
    found = subprocess.run(["git", "grep", "-l", marker], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout == ""
