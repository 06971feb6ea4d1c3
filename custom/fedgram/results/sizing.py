"""The rounds and steps that suit the size of a federation's data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_PASSES = 20  # over a site's samples in a whole run, as in jobs/few-labels
_STEPS, _ROUNDS = (2, 20), (5, 50)  # least and most of what is advised


def advised(samples: int, batch: int) -> tuple[int, int]:
    """The rounds and the local steps by which a site sees its samples about 20 times, and about once a round.

    Args:
        samples: that a typical site trains on.
        batch: size of a batch.
    """
    batch = min(batch, samples)
    steps = min(max(math.ceil(samples / batch), _STEPS[0]), _STEPS[1])
    rounds = math.ceil(_PASSES * samples / (steps * batch))
    return min(max(rounds, _ROUNDS[0]), _ROUNDS[1]), steps


def sizing(facts: Mapping[str, Any]) -> str | None:
    """Say how often a run's sites see their samples, and what would suit so many; None where that is not known."""
    last, silent = facts["rounds"][-1:], facts.get("privacy", {})  # differentially private: no count is known
    counts = [n for record in last for site, n in record.get("samples", {}).items() if n and site not in silent]
    if not counts:
        return None
    training = facts["job"]["training"]
    seen = [training["rounds"] * training["local_steps"] * min(training["batch_size"], n) / n for n in counts]
    rounds, steps = advised(sorted(counts)[len(counts) // 2], training["batch_size"])
    return (
        f"Sites have {min(counts)} to {max(counts)} training samples, and see each {min(seen):.0f} to "
        f"{max(seen):.0f} times in {training['rounds']} rounds of {training['local_steps']} steps; "
        f"a first try for so many: {rounds} rounds of {steps} steps."
    )
