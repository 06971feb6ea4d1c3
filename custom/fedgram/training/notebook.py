"""A federation in one call, in one process, without job folder or FLARE: for a notebook."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from fedgram.anchors import load_anchors
from fedgram.config.job import JobConfig
from fedgram.config.jobfolder import read_server, settings_in
from fedgram.config.site import SiteConfig, read_site_config
from fedgram.config.strict import from_dict, to_dict
from fedgram.demo.names import PREFIX, locate
from fedgram.errors import ConfigError
from fedgram.records import RoundRecord
from fedgram.sites.opening import open_site
from fedgram.sites.secret import with_secret
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from fedgram.training.session import SiteSession

AnySite = SiteConfig | Mapping[str, Any] | str | Path
_PATHS = ("data", "anchors", "heldout", "labels", "cache", "state")


def run(
    sites: Mapping[str, AnySite],
    anchors: str | Path | None = None,
    job: JobConfig | Mapping[str, Any] | str | Path | None = None,
    *,
    heldout: str | Path | None = None,
    folder: str | Path = "fedgram-run",
    on_round: Callable[[RoundRecord], None] = lambda record: None,
) -> Outcome:
    """Train a federation to its end; the same call goes on after the last round where it was interrupted.

    Args:
        sites: by name: settings of :class:`~fedgram.config.site.SiteConfig` as plain data (paths may be relative),
            the configuration itself, or a site file.
        anchors: folder of the anchor set of all sites, where their settings name none.
        job: settings of :class:`~fedgram.config.job.JobConfig` as plain data, the configuration itself, or a job
            folder; all defaults when absent. Anchors need not be pinned in plain data.
        heldout: folder of the held-out anchors.
        folder: of saved rounds and of the sites' results, which :func:`fedgram.load` opens.
        on_round: called with the record of every round.

    Raises:
        ConfigError: settings that are wrong.
        FedgramError: a site cannot be opened.
        RoundFailed: too few sites agree or reply.
    """
    configs = site_configs(sites, anchors, heldout)
    settings = job_config(job, configs)
    place = Path(folder)
    folders = {name: Path(config.state or place) / name for name, config in configs.items()}
    sessions = {
        name: SiteSession(open_site(name, with_secret(config, folders[name]), settings), folders[name])
        for name, config in configs.items()
    }
    return run_federation(sessions, settings, place / "server", on_round)


def site_configs(
    sites: Mapping[str, AnySite], anchors: str | Path | None = None, heldout: str | Path | None = None
) -> dict[str, SiteConfig]:
    """The settings of all sites, in whatever form they are given, with whole paths.

    Raises:
        ConfigError: no sites, a wrong setting, or no anchors.
    """
    if not sites:
        raise ConfigError("no sites", where="sites", expected="at least one, by name")
    shared = {k: str(v) for k, v in (("anchors", anchors), ("heldout", heldout)) if v is not None}
    return {name: _site(name, site, shared) for name, site in sites.items()}


def _site(name: str, site: AnySite, shared: Mapping[str, str]) -> SiteConfig:
    if isinstance(site, SiteConfig):
        return _known(site)
    if isinstance(site, (str, Path)):
        return _known(read_site_config(Path(site)))
    if not isinstance(site, Mapping):
        raise ConfigError(
            f"{site!r}", where=f"site {name}", expected="settings as plain data, a SiteConfig or a site file"
        )
    plain = {**shared, **site}
    if "anchors" not in plain:
        raise ConfigError(
            "no anchors", where=name, remedy="name them: anchors=FOLDER, for all sites or for this one"
        )
    whole = {k: _whole(v) for k, v in plain.items() if k in _PATHS and v is not None}
    return _known(from_dict(SiteConfig, {**plain, **whole}, name))


def _known(config: SiteConfig) -> SiteConfig:
    """The settings of a site that has nobody to hide its draws from: all sites are here, and a seed says all.

    But one that promises differential privacy keeps its secret, or has one drawn.
    """
    return config if config.privacy is not None else replace(config, secret=config.secret or "")


def _whole(path: str | Path) -> str:
    return str(path) if str(path).startswith(PREFIX) else str(Path(path).expanduser().resolve())


def job_config(
    job: JobConfig | Mapping[str, Any] | str | Path | None, sites: Mapping[str, SiteConfig]
) -> JobConfig:
    """The settings of a job, in whatever form they are given; anchors that it does not pin are the sites' own.

    Raises:
        ConfigError: a wrong setting, or sites with different anchors.
    """
    if isinstance(job, JobConfig):
        return job
    if job is None or isinstance(job, Mapping):
        return from_dict(JobConfig, {**pins_of(sites), **(job or {})}, "job")
    return from_dict(JobConfig, settings_in(read_server(Path(job))), str(job))


def pins_of(sites: Mapping[str, SiteConfig]) -> dict[str, Any]:
    """The anchor sets of all sites, as a job pins them.

    Raises:
        ConfigError: no sites, or sites with different anchors.
        AnchorError: a set cannot be read.
    """
    pins = {}
    for key in ("anchors", "heldout"):
        found = {
            locate(folder, Path(config.cache)) for config in sites.values() if (folder := getattr(config, key))
        }
        sets = {anchors.manifest_sha256: anchors for anchors in map(load_anchors, sorted(found))}
        if len(sets) > 1 or (key == "anchors" and not sets):
            raise ConfigError(f"{len(sets)} sets of anchors", where=key, expected="one, the same at every site")
        if sets:
            pins[key] = next(iter(sets.values())).pin()
    return pins


def plain_site(config: SiteConfig) -> dict[str, Any]:
    """The settings of a site that are not the defaults, as plain data for its own file."""
    defaults = to_dict(SiteConfig(modality=config.modality, anchors=config.anchors, unified=config.unified))
    found = {k: v for k, v in to_dict(config).items() if k in ("modality", "anchors") or v != defaults[k]}
    return _without_none(found)


def _without_none(plain: Mapping[str, Any]) -> dict[str, Any]:
    kept = {k: v for k, v in plain.items() if v is not None}
    return {k: _without_none(v) if isinstance(v, Mapping) else v for k, v in kept.items()}
