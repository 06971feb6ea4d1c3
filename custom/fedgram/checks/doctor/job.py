"""Checks of a job's folder, as far as one participant is concerned."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import starmap
from pathlib import Path
from typing import Any

from fedgram.checks.doctor.kit import own_file, read_local
from fedgram.checks.doctor.visit import AnnouncedJob, Finding, Skip, Visit, read_json
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.errors import ConfigError
from fedgram.flare.components import CONTROLLER, modality_of


def read_job(folder: Path, participant: str) -> AnnouncedJob:
    """Read the demands of a job on one participant.

    Raises:
        ConfigError: not a job of fedgram, or the participant has no part in it.
    """
    try:
        return _read(folder, participant)
    except (KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"not a job folder of FLARE ({type(error).__name__}: {error})",
            where=folder,
            expected="as jobs/geodora",
        ) from None


def _read(folder: Path, participant: str) -> AnnouncedJob:
    meta = read_json(folder / "meta.json")
    server = read_json(folder / _app(meta, "server", folder) / "config" / "config_fed_server.json")
    app = folder / _app(meta, participant, folder)
    config = server if participant == "server" else read_json(app / "config" / "config_fed_client.json")
    controllers = [arguments for name, arguments in _components(server) if name == CONTROLLER]
    if len(controllers) != 1:
        raise ConfigError(
            f"{len(controllers)} workflows of fedgram",
            where=folder,
            expected=f"one {CONTROLLER}, as in jobs/geodora",
        )
    components = list(_components(config))
    needs = meta.get("resource_spec", {}).get(participant, {})
    return AnnouncedJob(
        settings=from_dict(JobConfig, controllers[0]["job"], "config_fed_server.json: job"),
        classes=tuple(dict.fromkeys(name for name, _ in components)),
        modality=next((m for m in starmap(modality_of, components) if m is not None), None),
        custom_code=(app / "custom").exists(),
        gpus=needs.get("num_of_gpus", 0),
        gpu_memory=needs.get("mem_per_gpu_in_GiB", 0),
    )


def _app(meta: dict[str, Any], participant: str, folder: Path) -> str:
    deploy_map: dict[str, list[str]] = meta.get("deploy_map", {})
    for app, sites in deploy_map.items():
        if participant in sites or "@ALL" in sites:
            return app
    known = sorted({site for sites in deploy_map.values() for site in sites})
    raise ConfigError(
        f"no app for {participant!r}",
        where=folder / "meta.json",
        expected=f"one of {', '.join(known)}",
        remedy="ask who announced the job to add this participant to its deploy_map",
    )


def _components(config: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Class and arguments of every component of a FLARE configuration, at any depth."""
    if isinstance(config, dict):
        name = config.get("path", config.get("class_path"))
        if isinstance(name, str):
            yield name, config.get("args", {})
        for value in config.values():
            yield from _components(value)
    elif isinstance(config, list):
        for value in config:
            yield from _components(value)


def job(visit: Visit) -> Iterator[Finding]:
    """Check that the announced job can be read, and has a part for this participant that it accepts."""
    if visit.job_folder is None:
        raise Skip("no job was named: `--job FOLDER` also checks one that was announced")
    found = visit.job = read_job(visit.job_folder, visit.kit.name)
    settings = found.settings
    rounds = f"{settings.training.rounds} rounds of {settings.training.local_steps} steps"
    part = f", {found.modality} here" if found.modality else ""
    yield Finding("ok", f"{visit.job_folder.name}: {rounds} over {settings.backbone.name!r}{part}")
    if found.custom_code:
        yield Finding(
            "failure",
            "the job brings code of its own: a site that denies it refuses the job",
            "ask for a job folder of configuration only",
        )
    yield from _gpus(visit, found)


def _gpus(visit: Visit, found: AnnouncedJob) -> Iterator[Finding]:
    """Check GPUs: a job that asks for more than ``resources.json`` offers waits for ever, without an error."""
    path, resources = read_local(visit.kit, "resources.json")
    managers = [c for c in resources.get("components", ()) if c.get("id") == "resource_manager"]
    offer = managers[0].get("args", {}) if managers else {}
    count, memory = offer.get("num_of_gpus", 0), offer.get("mem_per_gpu_in_GiB", 0)
    if found.gpus > count or (found.gpus and found.gpu_memory > memory):
        wanted, offered = f"{found.gpus} GPUs of {found.gpu_memory} GiB", f"{count} of {memory} GiB"
        yield Finding(
            "failure",
            f"the job reserves {wanted}, {path.name} offers {offered}: the job would wait for ever",
            f"set num_of_gpus and mem_per_gpu_in_GiB of resource_manager in {own_file(path)}",
        )
