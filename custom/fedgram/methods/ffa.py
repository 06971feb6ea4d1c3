"""FFA-LoRA (Sun et al. 2024): A frozen at random, B averaged, weighted by samples.

Kept: all of it; the product of the mean is the mean of the products, and half of the bytes are saved. It is
GeoLoRA without the losses over the anchors and with weights by sample, so this file only refuses anything else.
"""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods.base import Method


class FFALoRA(Method):
    """B alone is averaged."""

    name = "ffa"
    title = "FFA-LoRA"
    source = "Sun et al. 2024"
    shares = "B, A frozen"

    def __init__(self, job: JobConfig):
        super().__init__(job)
        if job.adapter.dora or job.training.geometry_weight or job.training.concept_weight:
            raise ConfigError(
                "DoRA, or a loss over the anchors",
                where="method 'ffa'",
                expected="adapter.dora false, geometry_weight 0 and concept_weight 0",
            )
