"""The parts of a FLARE job folder that fedgram reads or writes: its sites, its settings, its anchors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedgram.errors import ConfigError
from fedgram.files import read_small, write_text

SERVER = "app_server/config/config_fed_server.json"
META = "meta.json"
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, RecursionError)  # what is not as it should be


def client_names(job: Path) -> list[str]:
    """The names of a job's sites, from its deploy map.

    Raises:
        ConfigError: no job folder there.
    """
    try:
        deploy_map = json.loads(read_small(job / META, ConfigError))["deploy_map"]
        sites = [site for sites in deploy_map.values() for site in sites if site != "server"]
        if not all(isinstance(site, str) for site in sites):
            raise TypeError
    except (ConfigError, *_MALFORMED) as error:
        raise ConfigError(f"not a job folder ({type(error).__name__})", where=job, expected=META) from None
    return sites


def read_server(job: Path) -> dict[str, Any]:
    """The server's part of a job of fedgram.

    Raises:
        ConfigError: not a job folder of fedgram.
    """
    try:
        server = json.loads(read_small(job / SERVER, ConfigError))
        if not isinstance(settings_in(server), dict):
            raise TypeError
    except (ConfigError, *_MALFORMED) as error:
        raise ConfigError(
            f"not a job of fedgram ({type(error).__name__})",
            where=job / SERVER,
            expected="one workflow, as in jobs/geodora",
        ) from None
    return server


def settings_in(server: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of fedgram inside the server's part of a job, to be read or changed."""
    (workflow,) = server["workflows"]
    return workflow["args"]["job"]


def pin_anchors(job: Path, pins: Mapping[str, Mapping[str, Any]]) -> None:
    """Make a job use other anchor sets; nothing else of it changes.

    Args:
        job: its folder.
        pins: ``anchors`` and, where there is a held-out set, ``heldout``; as `fedgram anchors check` prints them.

    Raises:
        ConfigError: not a job folder of fedgram.
    """
    server = read_server(job)
    settings = settings_in(server)
    settings |= {"heldout": None, **pins}
    write_text(job / SERVER, json.dumps(server, indent=2) + "\n")
