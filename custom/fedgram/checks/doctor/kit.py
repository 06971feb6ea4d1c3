"""Checks of a startup kit of a site or the server, and of the software that runs it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

from fedgram.checks.doctor.visit import Finding, Kit, Visit, read_json
from fedgram.errors import ConfigError
from fedgram.flare.commandline import require_whole

_SHOWN = ("nvflare", "torch", "transformers", "peft")


def read_kit(folder: Path) -> Kit:
    """Read a startup kit: whose it is, and where its server is.

    Raises:
        ConfigError: not the kit of a site or the server.
    """
    path = next(
        (p for p in (folder / "startup").glob("fed_*.json") if p.stem in ("fed_client", "fed_server")), None
    )
    if path is None:
        raise ConfigError(
            "not the startup kit of a site or the server",
            where=folder,
            expected="a folder with local/ and startup/, as `nvflare provision` writes it",
        )
    settings = read_json(path)
    try:
        server = settings["servers"][0]
        host, _, port = server["service"]["target"].rpartition(":")
        if path.stem == "fed_server":
            return Kit(folder, "server", "server", host, int(port), server)
        own = settings["client"]
        return Kit(folder, "client", own["fqsn"].rpartition(".")[2], host, int(port), own)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"not what `nvflare provision` writes ({type(error).__name__}: {error})",
            where=path,
            remedy="restore it from the kit",
        ) from None


def read_local(kit: Kit, name: str) -> tuple[Path, dict[str, Any]]:
    """Read a file of the kit's ``local`` folder; as in FLARE, the site's own version comes before the default.

    Raises:
        ConfigError: neither is there, or it is no JSON object.
    """
    own = kit.folder / "local" / name
    path = own if own.exists() else own.with_name(f"{name}.default")
    content = read_json(path)
    if not isinstance(content, dict):
        raise ConfigError(f"{type(content).__name__}", where=path, expected="a JSON object")
    return path, content


def own_file(path: Path) -> str:
    """The file for a setting: FLARE's default is a pattern, which the site's own file replaces as a whole."""
    if path.suffix != ".default":
        return f"local/{path.name}"
    return f"local/{path.stem} (copy {path.name} to it first)"


def place(visit: Visit) -> Iterator[Finding]:
    """Check that FLARE can start a job from this folder, by its name."""
    require_whole(visit.kit.folder)
    yield Finding("ok", f"{visit.kit.folder.absolute()}")


def packages(visit: Visit) -> Iterator[Finding]:
    """Check that the installed versions are those that fedgram's own metadata asks for."""
    own = _version("fedgram")
    if own is None:
        yield Finding(
            "failure", "fedgram is not installed here", "pip install it where the kit's python3 finds it"
        )
        return
    found = [f"fedgram {own}"]
    for requirement in map(Requirement, metadata.requires("fedgram") or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            problem = f"{requirement.name} {version or 'is not installed'}"
            yield Finding("failure", problem, f"pip install '{requirement}'")
        elif requirement.name in _SHOWN:
            found.append(f"{requirement.name} {version}")
    yield Finding("ok", ", ".join(found))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
