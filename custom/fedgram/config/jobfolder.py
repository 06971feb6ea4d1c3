"""The parts of a FLARE job folder that fedgram reads or writes: its sites, and the anchors that it is to use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedgram.errors import ConfigError
from fedgram.files import write_text

_SERVER = Path("app_server", "config", "config_fed_server.json")


def client_names(job: Path) -> list[str]:
    """The names of a job's sites, from its deploy map.

    Raises:
        ConfigError: no job folder there.
    """
    try:
        deploy_map = json.loads((job / "meta.json").read_text())["deploy_map"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"not a job folder ({type(error).__name__})", where=job, expected="meta.json") from None
    return [site for sites in deploy_map.values() for site in sites if site != "server"]


def pin_anchors(job: Path, pins: Mapping[str, Mapping[str, Any]]) -> None:
    """Make a job use other anchor sets; nothing else of it changes.

    Args:
        job: its folder.
        pins: ``anchors`` and, where there is a held-out set, ``heldout``; as `fedgram anchors check` prints them.

    Raises:
        ConfigError: not a job folder of fedgram.
    """
    path = job / _SERVER
    try:
        server = json.loads(path.read_text())
        (settings,) = (flow["args"]["job"] for flow in server["workflows"])
        settings |= {"heldout": None, **pins}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"not a job of fedgram ({type(error).__name__})",
            where=path,
            expected="one workflow, as in jobs/geodora",
        ) from None
    write_text(path, json.dumps(server, indent=2) + "\n")
