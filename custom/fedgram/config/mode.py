"""The mode of a job in a word: what its server gets of one site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MEANING = {
    "plain": "the server gets every site's numbers, and one site can ruin the model",
    "plain + robust": "the server gets every site's numbers, and bounds what one can do to the model",
    "masked": "the server gets sums over the sites alone; every site keeps its own numbers, with its result",
}


def mode_of(job: Mapping[str, Any]) -> str:
    """Name the mode of a job, a key of :data:`MEANING`.

    Args:
        job: its settings as plain data; one that is not there has its default.
    """
    rules = job.get("aggregation", {})
    if rules.get("masked", False):
        return "masked"
    bounded = rules.get("clip", 2.0) or rules.get("rule", "mean") != "mean"
    return "plain + robust" if bounded else "plain"
