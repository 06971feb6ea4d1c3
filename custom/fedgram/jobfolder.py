"""What a FLARE job folder says of itself."""

from __future__ import annotations

import json
from pathlib import Path

from fedgram.errors import ConfigError


def client_names(job: Path) -> list[str]:
    """The sites of a job, from its deploy map.

    Raises:
        ConfigError: no job folder there.
    """
    try:
        deploy_map = json.loads((job / "meta.json").read_text())["deploy_map"]
    except (OSError, ValueError, KeyError) as error:
        raise ConfigError(f"not a job folder ({type(error).__name__})", where=job, expected="meta.json") from None
    return [site for sites in deploy_map.values() for site in sites if site != "server"]
