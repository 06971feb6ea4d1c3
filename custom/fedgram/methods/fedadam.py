"""FedAdam (Reddi et al. 2021) on LoRA: FedIT with Adam at the server.

Kept: the mean change of the sites is a gradient to Adam (:mod:`fedgram.core.server_step`). Changed: as in FedIT.
"""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods.base import PLAIN, merged
from fedgram.methods.fedit import FedIT

_ADAM = {"server_optimizer": "adam", "server_learning_rate": 0.002, "server_momentum": 0.9}


class FedAdam(FedIT):
    """FedIT, where the server's step is Adam's."""

    name = "fedadam"
    title = "FedAdam"
    source = "Reddi et al. 2021"
    shares = "A and B, each averaged"
    settings = merged(PLAIN, {"aggregation": _ADAM})

    def __init__(self, job: JobConfig):
        super().__init__(job)
        if job.aggregation.server_optimizer != "adam":
            optimizer = job.aggregation.server_optimizer
            raise ConfigError(f"server_optimizer {optimizer!r}", where="method 'fedadam'", expected="adam")
