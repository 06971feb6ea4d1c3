"""The doctor on a job: what is wrong with it, and what a site lets it do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from examined import assert_one, edit_meta, edit_settings, examine, troubles
from fedgram.checks.doctor import policy, server, show
from fedgram.flare import components, privacy
from fedgram.flare.executors import SiteExecutor
from fedgram.flare.rejoin import Rejoin
from fedgram.flare.shield.parent import ServerGate
from kits import CLIENT_CLASSES, SERVER_CLASSES, edit_json, edit_site, write_json, write_policy
from nvflare.app_common.default_component_policy import DEFAULT_CLASS_ALLOW_LIST
from nvflare.app_common.widgets.component_path_authorizer import ComponentPathAuthorizer
from nvflare.fuel.utils.class_utils import instantiate_class
from nvflare.private.fed.utils.site_config import SITE_CONFIG_EXCLUDED_TOP_LEVEL_KEYS
from nvflare.security.security import COMMAND_CATEGORIES, CommandCategory

Mutation = Callable[[Path, Path], None]  # of a kit and a job folder


# The job


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
    assert f"{ServerGate.__module__}.{ServerGate.__qualname__}" == server.GATE
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
