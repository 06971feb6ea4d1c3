"""Checks of a site's policy: the allow-list, custom code, shell commands, streamed logs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from fedgram.checks.doctor.kit import own_file, read_local
from fedgram.checks.doctor.visit import Finding, Visit, needed, read_json
from fedgram.config.site import UNIFIED
from fedgram.flare.components import CONTROLLER, TO_TRACKERS, TRACKER, executor_of

GATE, TASK = "fedgram.flare.privacy.OnlyTheContract", "fedgram.flare.privacy.TheTask"


def allow_list(visit: Visit) -> Iterator[Finding]:
    """Check that jobs may build the classes that they need, and nothing else."""
    path, resources = read_local(visit.kit, "resources.json")
    where = own_file(path)
    allowed = [str(entry) for entry in resources.get("class_allow_list") or ()]
    broad = [entry for entry in allowed if _is_broad(entry)]
    if broad:
        yield Finding(
            "failure",
            f"{path.name} allows {', '.join(map(repr, broad))}: a job may call anything in there, with arguments "
            "of its choice",
            f"name each class in class_allow_list of {where}, as the kits of provisioning/ do",
        )
    if resources.get("class_list_enforcement_mode", "enforce") != "enforce":
        yield Finding(
            "failure",
            f"class_list_enforcement_mode in {path.name} is not 'enforce': every class is let through",
            f"set it to 'enforce' in {where}",
        )
    absent = [name for name in _required(visit) if not any(_allows(entry, name) for entry in allowed)]
    for name in absent:
        yield Finding(
            "failure",
            f"{name} is not allowed: FLARE fails the whole job, for every site",
            f"add it to class_allow_list in {where}",
        )
    if not broad and not absent:
        yield Finding("ok", f"{path.name} names the classes that are needed here, and no package")


def _required(visit: Visit) -> tuple[str, ...]:
    """The classes that the job builds at this participant, or without a job those that fedgram's own jobs do."""
    if visit.job is not None:
        return visit.job.classes
    if visit.kit.side == "server":
        return (CONTROLLER, TRACKER)
    unified = needed(visit.config, "site file").unified is not None
    name = UNIFIED if unified else needed(visit.modality, "site file").name
    return (executor_of(name)["path"], TO_TRACKERS)


def _allows(entry: str, name: str) -> bool:
    """Whether FLARE's rule allows a class: by its very name, or a prefix of it that ends at a dot."""
    return entry in ("*", name) or name.startswith(entry if entry.endswith(".") else f"{entry}.")


def _is_broad(entry: str) -> bool:
    """Whether an entry lets in more than one class: ``*``, or by its spelling a package, a module, a function."""
    return entry.endswith((".", "*")) or not entry.rpartition(".")[2][:1].isupper()


@dataclass(frozen=True)
class _Right:
    """A right that FLARE gives to roles, by the names that ``authorization.json`` has for it.

    Attributes:
        names: of the right, or of each command under it.
        harmless: conditions under which it does no harm.
        harm: what it lets a role do.
    """

    names: tuple[str, ...]
    harmless: tuple[str, ...]
    harm: str


_CODE = _Right(("byoc",), ("none", "no"), "send code of their own in a job (BYOC): no allow-list checks it")
_SHELL = _Right(
    ("shell_commands", "cat", "grep", "head", "ls", "pwd", "tail"),
    ("none", "no", "o:site"),
    "run cat, grep and tail here: they show the site file and logs",
)
_LOGS = _Right(("get_job_log",), ("none", "no", "o:site"), "read the logs of jobs at this site")


def rights(visit: Visit) -> Iterator[Finding]:
    """Check that nobody brings code along, and nobody of another organisation looks into this machine's files."""
    path, content = read_local(visit.kit, "authorization.json")
    permissions = content.get("permissions")
    permissions = permissions if isinstance(permissions, dict) else {}
    watched = (_CODE, _SHELL) if visit.kit.side == "server" else (_CODE, _SHELL, _LOGS)
    holders = {right: _holders(permissions, right) for right in watched}
    for right, roles in holders.items():
        if roles:
            allowed = " or ".join(f'"{condition}"' for condition in right.harmless if condition != "no")
            yield Finding(
                "warning",
                f"{path.name} lets {', '.join(roles)} {right.harm}",
                f'write "{right.names[0]}": {allowed} for every role in {own_file(path)}, then restart FLARE here',
            )
    if not any(holders.values()):
        yield Finding("ok", f"{path.name} denies custom code, and other organisations a look at files here")


def _holders(permissions: dict[str, Any], right: _Right) -> list[str]:
    """The roles that may do it, on any condition that is not harmless; what is not named is denied."""
    holders = []
    for role, rules in permissions.items():
        rule = [rules.get(name, "none") for name in right.names] if isinstance(rules, dict) else [rules]
        conditions = [c for part in rule for c in (part if isinstance(part, list) else [part])]
        if not all(str(condition).lower() in right.harmless for condition in conditions):
            holders.append(role)
    return holders


def log_streaming(visit: Visit) -> Iterator[Finding]:
    """Check log streaming: FLARE sends a site's error log to the server unless the site says no."""
    path, resources = read_local(visit.kit, "resources.json")
    if resources.get("allow_log_streaming", True) is False:
        yield Finding("ok", "FLARE's error log stays here")
    else:
        yield Finding(
            "warning",
            "FLARE streams its error log to the server: the text of an error of any library could travel",
            f'write "allow_log_streaming": false in {own_file(path)}, then restart FLARE here',
        )


def privacy_gate(visit: Visit) -> Iterator[Finding]:
    """Check that every reply passes the site's own filter, which lets out only what the contract lists."""
    path = visit.kit.folder / "local" / "privacy.json"
    both = f"{GATE} and {TASK} in every scope"
    remedy = f"write local/privacy.json with {both}, as provisioning does, then restart FLARE here"
    if not path.exists():
        yield Finding("warning", "no privacy.json: FLARE sends whatever a job's class replies", remedy)
        return
    scopes = read_json(path).get("scopes", ())
    open_scopes = [
        str(scope.get("name"))
        for scope in scopes
        if not (_filters(scope, "task_result_filters", GATE) and _filters(scope, "task_data_filters", TASK))
    ]
    if open_scopes or not scopes:
        yield Finding("warning", f"scopes without the gate: {', '.join(open_scopes) or 'there is none'}", remedy)
    else:
        yield Finding("ok", f"every reply passes {GATE.rpartition('.')[2]}")


def _filters(scope: dict[str, Any], chain: str, path: str) -> bool:
    return path in [entry.get("path") for entry in scope.get(chain, ())]
