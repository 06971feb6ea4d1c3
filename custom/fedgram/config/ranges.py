"""The ranges that the settings of a job must keep to."""

from __future__ import annotations

import re
from typing import Any

from fedgram.errors import ConfigError

# Far more than anybody needs: more is a slip of the pen, and would fail late, or never end.
_MOST = {
    "anchors.concepts": 2**14,  # G has the square of it
    "backbone.layers": 2**12,
    "adapter.rank": 2**14,
    "training.rounds": 10**6,
    "training.local_steps": 10**7,
    "training.batch_size": 10**6,
    "training.geometry_every": 10**7,
    "aggregation.weight_samples": 10**8,
    "aggregation.min_sites": 10**5,
    "aggregation.deadline_seconds": 10**8,
    "aggregation.setup_seconds": 10**8,
}
# By which each reply is judged or bounded at the server: under masks it sees none.
_MASKED = {"clip": 0, "rule": "mean", "mixing": False, "consensus": "mean", "max_share": 1}
METRIC_NAME = re.compile(r"[\w.-]{1,64}", re.ASCII)


def require_moderate(setting: str, got: int) -> None:
    """Raise ConfigError for a number of a job that is absurd."""
    require(got <= _MOST[setting], setting, got, f"at most {_MOST[setting]}")


def require_maskable(rules: Any) -> None:
    """Raise ConfigError for a rule of a masked job's server that would have to see each reply by itself."""
    for name, wanted in _MASKED.items():
        if (got := getattr(rules, name)) != wanted:
            raise ConfigError(
                f"{got!r} in a masked job",
                where=f"aggregation.{name}",
                expected=repr(wanted),
                remedy=f"set {name} to {wanted!r}, or masked to False: under masks it sees no single reply",
            )


def require(holds: bool, setting: str, got: object, expected: str) -> None:
    """Raise ConfigError, with what was got and expected, unless a condition on a setting holds."""
    if not holds:
        raise ConfigError(f"{got!r}", where=setting, expected=expected)
