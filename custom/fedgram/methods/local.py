"""Training alone: what can be had without sharing anything."""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods.base import Method


class Local(Method):
    """Every site trains alone; the anchors serve only to compare them afterwards."""

    name = "local"
    title = "training alone"
    shares = "nothing"

    def __init__(self, job: JobConfig):
        super().__init__(job)
        if job.adapter.shares_magnitude:
            raise ConfigError(
                "adapter.magnitude 'mean'",
                where=f"method {job.method.name!r}",
                expected="'private': no weights are shared, so m is not averaged either",
            )

    def shares_b(self, layer: str) -> bool:
        return False
