"""What only a machine's own files say: where a site's data are and on what it computes, where the server saves.

A job can neither read nor change them. These and :mod:`fedgram.config` hold the only defaults of fedgram.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from fedgram.errors import ConfigError
from fedgram.settings import from_dict

T = TypeVar("T")


@dataclass(frozen=True)
class SiteConfig:
    """What only the site knows; read from its own file, never from a job.

    Attributes:
        modality: ``image``, ``text``, ``genomics``, ``tabular`` or ``package.module:attribute``.
        data: folder or file with the site's data (``demo:…`` names the embedded demo).
        tokenizer: name, hub id or folder of the frozen encoder.
        anchors: folder of the anchor set that trains.
        heldout: folder of the held-out anchor set.
        concepts: train on these labels only; all when empty.
        backbones: folder by backbone name, for backbones that are not fetched from the hub by their id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` …
        precision: of the frozen backbone.
        threads: CPU threads; 0 leaves it to torch.
        cache: folder of the token cache.
        state: folder of the site's own state and results; inside the site's workspace when absent.
    """

    modality: str
    data: str
    tokenizer: str
    anchors: str
    heldout: str | None = None
    concepts: tuple[str, ...] = ()
    backbones: Mapping[str, str] = field(default_factory=dict)
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 0
    cache: str = "~/.cache/fedgram"
    state: str | None = None

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ConfigError(f"{self.threads!r}", where="threads", expected="0 or more")


@dataclass(frozen=True)
class ServerConfig:
    """What only the server's own machine knows.

    Attributes:
        state: folder of the saved rounds, from which an interrupted run goes on; inside the server's workspace
            when absent. `nvflare simulator` empties its workspace, so there only a folder elsewhere outlives it.
    """

    state: str | None = None


def find_site_config(local: Path, name: str) -> SiteConfig:
    """The site's own file in the ``local`` folder of its workspace.

    ``fedgram/<site>.toml`` is for a simulator, whose sites share one folder; else ``fedgram.toml``.

    Raises:
        ConfigError: there is none, or it is wrong.
    """
    own = local / "fedgram" / f"{name}.toml"
    return read_site_config(own if own.exists() else local / "fedgram.toml")


def read_server_config(path: Path) -> ServerConfig:
    """Read the server's own file (TOML); all defaults when there is none.

    Raises:
        ConfigError: it is not TOML, or holds an unknown or wrong setting.
    """
    return _read_toml(ServerConfig, path) if path.exists() else ServerConfig()


def read_site_config(path: Path) -> SiteConfig:
    """Read a site's own file (TOML).

    Raises:
        ConfigError: the file is missing, is not TOML, or holds an unknown, missing or wrong setting.
    """
    if not path.exists():
        raise ConfigError(
            "no site file", where=path, remedy="copy provisioning/site.example.toml there and edit it"
        )
    return _read_toml(SiteConfig, path)


def _read_toml(kind: type[T], path: Path) -> T:
    try:
        settings = tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"not a TOML file: {error}", where=path) from None
    return from_dict(kind, settings, str(path))
