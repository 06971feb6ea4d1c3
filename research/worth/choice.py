"""The rate of each line, chosen on validation data of splits that no other study has."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

from fedgram.errors import ConfigError

from research.worth.studies import Rates


def best_rates(rows: Sequence[dict[str, Any]]) -> Rates:
    """The rate with the highest mean accuracy on validation data, by federation and line; the smallest of several.

    Raises:
        ConfigError: no rows.
    """
    if not rows:
        raise ConfigError("no rows of the study 'tuning'", remedy="run it first: python -m research.worth tuning")
    scores: dict[tuple[str, str], dict[int, list[float]]] = {}
    for row in rows:
        by_rate = scores.setdefault((row["federation"], row["line"]), {})
        by_rate.setdefault(int(row["rate"]), []).append(row["validation accuracy"])
    return {key: max(sorted(tried), key=lambda rate: mean(tried[rate])) for key, tried in scores.items()}
