"""The methods that a job may run: fedgram's own and those that it is compared with, one file each.

A file says what it kept of the original, and what had to change. A method of another package is named by its
import path, ``package.module:Class``, where the site's own file and the server's allow it.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedgram.config.job import JobConfig
from fedgram.config.server import ServerConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import imported
from fedgram.errors import ConfigError
from fedgram.methods.base import Method, merged
from fedgram.methods.creamfl import CreamFL
from fedgram.methods.fedadam import FedAdam
from fedgram.methods.fedcola import SharedAttention
from fedgram.methods.fedex import FedExLoRA
from fedgram.methods.fedhenn import FedHeNN
from fedgram.methods.fedit import FedIT
from fedgram.methods.fedproto import FedProto
from fedgram.methods.fedprox import FedProx
from fedgram.methods.fedsa import FedSALoRA
from fedgram.methods.fedsaf import FedSAF
from fedgram.methods.ffa import FFALoRA
from fedgram.methods.flora import FLoRA
from fedgram.methods.geo import Geo
from fedgram.methods.local import Local
from fedgram.methods.per_modality import PerModality
from fedgram.methods.xflora import ModalityExperts

__all__ = [
    "JOBS",
    "METHODS",
    "Method",
    "find",
    "job_of",
    "method_of",
    "require_allowed",
    "require_allowed_at_server",
]

_ALL: tuple[type[Method], ...] = (
    Geo,
    Local,
    FedIT,
    FFALoRA,
    FedSALoRA,
    FLoRA,
    FedExLoRA,
    FedProx,
    FedAdam,
    FedProto,
    FedSAF,
    CreamFL,
    SharedAttention,
    FedHeNN,
    PerModality,
    ModalityExperts,
)
METHODS = {method.name: method for method in _ALL}
JOBS = {name: method for method in _ALL for name in (method.name, *method.variants)}


def find(name: str) -> type[Method]:
    """Find a method by its name, or at ``package.module:Class``, whose code this imports.

    Raises:
        ConfigError: neither a known name nor a method that can be imported.
    """
    _require_name(name)
    if name in METHODS:
        return METHODS[name]
    found = imported(name, "method")
    if not (isinstance(found, type) and issubclass(found, Method)):
        raise ConfigError(
            f"{name!r} is {found!r}", where="method", expected="a subclass of fedgram.methods.Method"
        )
    if found.sends is not Method.sends and not found.sends_what:
        raise ConfigError(f"{name!r} has no sends_what", where="method", expected="what it sends, in words")
    return found


def method_of(job: JobConfig) -> Method:
    """The method of a job.

    Raises:
        ConfigError: no such method, or the job has settings that it has no meaning for.
    """
    return find(job.method.name)(job)


def job_of(name: str) -> dict[str, Any]:
    """The settings in which a job differs from one of GeoDoRA: those of a method, or of a variant of one.

    Args:
        name: one of ``JOBS``, or ``package.module:Class``.

    Raises:
        ConfigError: neither a known name nor a method that can be imported.
    """
    method = JOBS.get(name) or find(name)
    changes = merged(method.settings, method.variants.get(name, {}))
    return merged(changes, {"method": {"name": method.name if name in JOBS else name}})


def require_allowed(site: str, config: SiteConfig, job: JobConfig) -> None:
    """Check that the site's own file allows the job's method, before any code of another package is imported.

    Raises:
        ConfigError: it does not, or one of the names is not that of a method.
    """
    where, remedy = f"{site}: methods", "if that may leave this site, add {!r} to methods in its file"
    for listed in config.methods:
        _require_name(listed, where)
    _require_listed(job.method.name, config.methods, where, remedy)


def require_allowed_at_server(path: Path, config: ServerConfig, job: JobConfig) -> None:
    """Check that the server's own file allows a method of another package, before it is imported.

    Args:
        path: where that file is, or would be.

    Raises:
        ConfigError: it does not, or there is no such method.
    """
    known = (*METHODS, *config.methods)
    _require_listed(
        job.method.name, known, f"{path}: methods", "if its code may run here, add {!r} to methods there"
    )


def _require_listed(name: str, listed: Sequence[str], where: str, remedy: str) -> None:
    _require_name(name)
    if name not in listed:
        harm = (
            f"sends {METHODS[name].sends_what or 'B, G and one weight'}" if name in METHODS else "is foreign code"
        )
        raise ConfigError(
            f"the job runs method {name!r}, which {harm}",
            where=where,
            expected=", ".join(listed),
            remedy=remedy.format(name),
        )


def _require_name(name: str, where: str = "method") -> None:
    """Refuse a name that is neither of a method here nor an import path; nothing is imported."""
    module, colon, attribute = name.partition(":")
    if name in METHODS or (colon and attribute.isidentifier() and all(map(str.isidentifier, module.split(".")))):
        return
    close = difflib.get_close_matches(name, METHODS, n=1)
    raise ConfigError(
        f"unknown method {name!r}",
        where=where,
        expected=f"{', '.join(METHODS)}, or package.module:Class",
        remedy=f"did you mean {close[0]!r}?" if close else None,
    )
