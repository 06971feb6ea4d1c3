"""The names under which a site keeps the state of its runs, one folder each beside its results."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from hashlib import sha256

from fedgram.errors import ConfigError
from fedgram.sites.guarantee import Guarantee

_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")


def run_name(run: str, guarantee: Guarantee | None) -> str:
    """The name of a run at a site: what was trained without a promise of privacy is not gone on with under one.

    Args:
        run: as the server calls it, who may call it anything: here it becomes a part of a path.
        guarantee: of the site, if it gives one.

    Raises:
        ConfigError: the server's name is no word.
    """
    if not _RUN.fullmatch(run):
        raise ConfigError(f"a run named {run[:20]!r}", expected="1 to 64 letters, digits, - and _")
    if guarantee is None:
        return run
    return f"{run}.{sha256(json.dumps(asdict(guarantee), sort_keys=True).encode()).hexdigest()[:8]}"
