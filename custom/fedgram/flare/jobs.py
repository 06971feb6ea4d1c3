"""Job folders: any method over the demo's sites, or over those of a job that is there already.

`jobs/` holds five of them, as they are written here; a test keeps them so.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedgram.anchors import load_anchors
from fedgram.config import jobfolder
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict
from fedgram.demo.names import locate
from fedgram.errors import ConfigError
from fedgram.files import write_text
from fedgram.flare.components import CONTROLLER, TO_TRACKERS, TRACKER, executor_of
from fedgram.methods import job_of, method_of
from fedgram.methods.base import merged

Folder = dict[str, Any]  # the JSON files of a job folder, by their path in it


@dataclass(frozen=True)
class _Demo:
    """A job over data that come with the package.

    Attributes:
        anchors: the name of its anchor sets.
        sites: the sites of each modality.
        settings: all that is not the default.
    """

    anchors: str
    sites: Mapping[str, tuple[str, ...]]
    settings: Mapping[str, Any]


_SCENES = {
    "backbone": {"name": "janus-shapes"},
    "adapter": {"rank": 16, "alpha": 32.0, "dora": False},
    "baseline": False,
}
# Plain FedUMM is FedAvg on both factors of LoRA without a loss over the anchors; the mixed one shares B alone,
# between sites of three kinds.
_DEMOS = {
    "geodora": _Demo(
        anchors="carnivora",
        sites={kind: (f"hosp-{kind}",) for kind in ("image", "text", "genomics", "tabular")},
        settings={
            "backbone": {"name": "minilm", "layers": 3},
            "adapter": {"rank": 16, "dora": True},
            "training": {"rounds": 24, "local_steps": 4},
        },
    ),
    "few-labels": _Demo(
        anchors="carnivora",
        sites={
            "image": ("hosp-image-1", "hosp-image-2", "hosp-image-3", "hosp-image-4"),
            "text": ("hosp-text",),
            "genomics": ("hosp-genomics",),
        },
        settings={
            "backbone": {"name": "minilm", "layers": 2},
            "adapter": {"rank": 16, "dora": False},
            "training": {"rounds": 12, "local_steps": 2, "geometry_every": 4},
            "aggregation": {"weights": "samples"},
        },
    ),
    "fedumm": _Demo(
        anchors="scenes",
        sites={"unified": ("umm-1", "umm-2", "umm-3", "umm-4")},
        settings={
            **_SCENES,
            "method": {"name": "fedit"},
            "training": {
                "rounds": 32,
                "local_steps": 24,
                "batch_size": 8,
                "learning_rate": 0.012,
                "final_rate": 0.05,
                "geometry_weight": 0.0,
                "concept_weight": 0.0,
            },
            "aggregation": {"weights": "samples"},
        },
    ),
    "fedumm-mixed": _Demo(
        anchors="scenes",
        sites={"unified": ("umm-1", "umm-2"), "image": ("scenes-image",), "text": ("scenes-text",)},
        settings={
            **_SCENES,
            "training": {"rounds": 8, "local_steps": 10, "batch_size": 16, "learning_rate": 3e-3},
            "aggregation": {"weights": "samples"},
        },
    ),
}


def build(name: str, template: Path | None = None) -> Folder:
    """The job folder of a method: its settings on those of GeoDoRA.

    Args:
        name: ``geodora``, ``geolora``, ``fedadam``, ``few-labels``, ``fedumm``, ``fedumm-mixed``, any method, or
            ``package.module:Class``.
        template: a job folder of GeoDoRA or GeoLoRA over other sites; the demo's when absent.

    Raises:
        ConfigError: no such method, settings that it has no meaning for, or a template that cannot be used.
    """
    if template is None and name in _DEMOS:
        folder = _demo(_DEMOS[name])
    else:
        folder = _demo(_DEMOS["geodora"]) if template is None else _read(template)
        settings = jobfolder.settings_in(folder[jobfolder.SERVER])
        settings |= merged(settings, job_of(name))
    folder[jobfolder.META]["name"] = f"fedgram-{name}"
    method_of(from_dict(JobConfig, jobfolder.settings_in(folder[jobfolder.SERVER]), name))
    return folder


def settings(name: str) -> dict[str, Any]:
    """The settings of a job over the demo's sites, as plain data.

    Raises:
        ConfigError: no such method.
    """
    return jobfolder.settings_in(build(name)[jobfolder.SERVER])


def change(folder: Folder, changes: Mapping[str, Any], name: str | None = None) -> None:
    """Change settings of a job folder, and its name.

    Args:
        changes: as plain data; of a part that is a table only what is named changes.

    Raises:
        ConfigError: settings that a job cannot have.
    """
    settings = jobfolder.settings_in(folder[jobfolder.SERVER])
    for part, value in changes.items():
        settings[part] = {**settings.get(part, {}), **value} if isinstance(value, Mapping) else value
    method_of(from_dict(JobConfig, settings, name or folder[jobfolder.META]["name"]))
    folder[jobfolder.META]["name"] = name or folder[jobfolder.META]["name"]


def write(folder: Folder, out: Path, *, overwrite: bool = False) -> None:
    """Write a job folder.

    Raises:
        ConfigError: there is something already, and it is not a job folder that may be overwritten.
    """
    if out.exists():
        if not (overwrite and (out / jobfolder.META).is_file()):
            what = "no job folder, so it is not overwritten" if overwrite else "already there"
            raise ConfigError(
                what, where=out, remedy="name a new folder" + ("" if overwrite else ", or use --force")
            )
        shutil.rmtree(out)
    for name, content in folder.items():
        write_text(out / name, json.dumps(content, indent=2) + "\n")


def _read(template: Path) -> Folder:
    server = jobfolder.read_server(template)
    jobfolder.client_names(template)
    name = jobfolder.settings_in(server).get("method", {}).get("name", "geo")
    if name != "geo":
        raise ConfigError(f"a job of method {name!r}", where=template, expected="one of 'geo', as jobs/geodora")
    if other := [path for path in template.rglob("*") if path.is_file() and path.suffix != ".json"]:
        raise ConfigError(f"{other[0].name!r} in a job", where=template, expected="configuration only (.json)")
    return {str(p.relative_to(template)): json.loads(p.read_text()) for p in sorted(template.rglob("*.json"))}


def over(
    sites: Mapping[str, Sequence[str]], pins: Mapping[str, Any], name: str = "geodora", label: str | None = None
) -> Folder:
    """The job folder of a method over sites of one's own: those of `jobs/geodora`, changed by the method.

    Args:
        sites: the names of the sites by modality, as executors ask for it.
        pins: ``anchors`` and perhaps ``heldout``, as :meth:`~fedgram.anchors.AnchorSet.pin` has them.
        name: of the method.
        label: of the job; ``fedgram-<name>`` when absent.

    Raises:
        ConfigError: no such method, or settings that it has no meaning for.
    """
    plain = {**pins, **_DEMOS["geodora"].settings}
    folder = _folder(sites, merged(plain, job_of(name)) if name != "geodora" else plain)
    folder[jobfolder.META]["name"] = label or f"fedgram-{name}"
    method_of(from_dict(JobConfig, jobfolder.settings_in(folder[jobfolder.SERVER]), name))
    return folder


def _demo(demo: _Demo) -> Folder:
    pins = {
        key: load_anchors(locate(f"demo:{demo.anchors}/anchors/{part}", Path())).pin()
        for key, part in (("anchors", "train"), ("heldout", "heldout"))
    }
    return _folder(demo.sites, {**pins, **demo.settings})


def _folder(sites: Mapping[str, Sequence[str]], settings: Mapping[str, Any]) -> Folder:
    apps = {f"app_{kind}/config/config_fed_client.json": _client(kind) for kind in sites}
    deployed = {"app_server": ["server"], **{f"app_{kind}": list(names) for kind, names in sites.items()}}
    meta = {"name": "", "resource_spec": {}, "min_clients": 2, "mandatory_clients": [], "deploy_map": deployed}
    copied = json.loads(json.dumps(settings))  # for whoever changes it
    return {jobfolder.SERVER: _server(copied), **apps, jobfolder.META: meta}


def _server(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "format_version": 2,
        "dead_client_grace_period": 20,
        "dead_client_check_lead_time": 5,
        "server": {"heart_beat_timeout": 600, "task_request_interval": 0.1},
        "workflows": [{"id": "gram", "path": CONTROLLER, "args": {"job": settings}}],
        "components": [{"id": "tensorboard", "path": TRACKER, "args": {"events": ["fed.analytix_log_stats"]}}],
    }


def _client(modality: str) -> dict[str, Any]:
    events = {"events_to_convert": ["analytix_log_stats"], "fed_event_prefix": "fed."}
    return {
        "format_version": 2,
        "executors": [{"tasks": ["*"], "executor": executor_of(modality)}],
        "components": [{"id": "metrics", "path": TO_TRACKERS, "args": events}],
    }
