"""The workspace of a simulation: FLARE's allow-list and the site files, and whether they fit a job."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedgram import modalities
from fedgram.anchors import load_anchors
from fedgram.config.job import JobConfig
from fedgram.config.jobfolder import META, client_names
from fedgram.config.server import read_server_config
from fedgram.config.site import UNIFIED, SiteConfig, find_site_config
from fedgram.demo.names import locate
from fedgram.errors import ConfigError
from fedgram.files import write_text
from fedgram.flare.components import SERVER_CLASSES, SITE_CLASSES, modality_of
from fedgram.methods import require_allowed, require_allowed_at_server

ALLOWED = {"format_version": 2, "class_allow_list": [*SITE_CLASSES, *SERVER_CLASSES]}


def write(workspace: Path, site_files: Mapping[str, str]) -> None:
    """Write ``local/`` of a workspace: the allow-list, and the site files by the names of their sites."""
    local = workspace / "local"
    write_text(local / "resources.json", json.dumps(ALLOWED, indent=2) + "\n")
    for name, text in site_files.items():
        write_text(local / "fedgram" / f"{name}.toml", text)


def site_names(workspace: Path) -> list[str]:
    """The sites that have a file of their own in a workspace."""
    folder = workspace / "local" / "fedgram"
    return sorted(path.stem for path in folder.glob("*.toml") if path.stem != "server")


def name_of(config: SiteConfig) -> str:
    """The name of a site's modality, by which a job asks for it."""
    return UNIFIED if config.modality == UNIFIED else modalities.load(config.modality).name


def require_fit(job: Path, workspace: Path, settings: JobConfig) -> dict[str, SiteConfig]:
    """Compare a job with the site files of a workspace, before anything is started.

    Args:
        job: its folder.
        workspace: with ``local/``.
        settings: of the job, as they will run.

    Returns:
        The settings of the job's sites, by name.

    Raises:
        ConfigError: a site without a file, a wrong file, another modality than the job's executor asks for, or a
            method that the site or the server does not allow.
        AnchorError: a site with another anchor set than the job's.
    """
    if not (workspace / "local" / "resources.json").is_file():
        raise ConfigError(
            "no local/resources.json",
            where=workspace,
            expected="an allow-list and the site files, as in provisioning/simulator",
            remedy=f"fedgram init writes them; or cp -r provisioning/simulator/local {workspace}/",
        )
    expected, configs = _modalities(job), {}
    for name in client_names(job):
        own = workspace / "local" / "fedgram" / f"{name}.toml"
        if not own.is_file() and not (workspace / "local" / "fedgram.toml").is_file():
            raise ConfigError(
                f"no file of site {name!r}, which {META} of the job deploys to",
                where=own,
                expected=f"files of {', '.join(client_names(job))}; there are {_listed(site_names(workspace))}",
                remedy=f"rename the site in deploy_map of {job / META}, or write its file",
            )
        configs[name] = config = find_site_config(workspace / "local", name)
        if expected[name] not in (None, found := name_of(config)):
            raise ConfigError(
                f"modality {found!r}",
                where=own,
                expected=f"{expected[name]!r}, by deploy_map of {job / META} and the executor of the site's app",
                remedy="move the site to the app of its modality, or correct its file",
            )
        require_allowed(name, config, settings)
    server = workspace / "local" / "fedgram" / "server.toml"
    require_allowed_at_server(server, read_server_config(server), settings)
    _require_anchors(configs, settings)
    return configs


def _require_anchors(configs: Mapping[str, SiteConfig], settings: JobConfig) -> None:
    pins: set[tuple[Path, str]] = set()
    for config in configs.values():
        for folder, pin in ((config.anchors, settings.anchors), (config.heldout, settings.heldout)):
            if folder is not None and pin is not None:
                pins.add((locate(folder, Path(config.cache)), pin.sha256))
    for folder, sha256 in sorted(pins):
        load_anchors(folder).require(sha256)


def _modalities(job: Path) -> dict[str, str | None]:
    """The modality that the executor of each site's app asks for; None of an executor that is not fedgram's."""
    deployed = json.loads((job / META).read_text())["deploy_map"]
    return {site: _asked(job / app) for app, sites in deployed.items() for site in sites if site != "server"}


def _asked(app: Path) -> str | None:
    path = app / "config" / "config_fed_client.json"
    try:
        executors: list[dict[str, Any]] = json.loads(path.read_text())["executors"]
        found = [one["executor"] for one in executors]
        return next(filter(None, (modality_of(one["path"], one.get("args", {})) for one in found)), None)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"not an app of a site ({type(error).__name__})", where=path) from None


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def site_file(settings: Mapping[str, Any], notes: Sequence[str] = ()) -> str:
    """The text of a site's own file.

    Args:
        settings: of :class:`~fedgram.config.site.SiteConfig`, as plain data; those that are None are left out.
        notes: comments for its owner.
    """
    tables = {name: value for name, value in settings.items() if isinstance(value, Mapping)}
    lines = ["# What only this site knows; its data owner edits this file and nothing else."]
    lines += [f"# {note}" for note in notes]
    lines += [f"{k} = {_toml(v)}" for k, v in settings.items() if k not in tables and v is not None]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in table.items())] if table else []
    return "\n".join(lines) + "\n"


def server_file(methods: Sequence[str]) -> str:
    """The text of the server's own file, which allows methods of other packages."""
    return f"# What only the server knows; its owner edits this file.\nmethods = {_toml([*methods])}\n"


def _toml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
