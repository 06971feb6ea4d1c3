"""The labels and shapes of the values in a masked sum, as both ends know them."""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.records import GlobalState
from fedgram.training.averages import B, M

GRAM, WEIGHT = "G", "weight"  # beside the labels of B and m


def shapes_of(job: JobConfig, state: GlobalState | None = None) -> dict[str, tuple[int, ...]]:
    """The shapes of the values by label: G alone before the first round, then all that an update has."""
    gram: dict[str, tuple[int, ...]] = {GRAM: (job.anchors.slots, job.anchors.slots)}
    if state is None:
        return gram
    deltas = {f"{B}{name}": tuple(b.shape) for name, b in state.B.items()}
    return {WEIGHT: (), **deltas, **{f"{M}{name}": tuple(m.shape) for name, m in state.m.items()}, **gram}
