"""Methods that share no weights: what can be had without them."""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods.base import Method


class Local(Method):
    """Every site trains alone; the anchors serve only to compare them afterwards."""

    def shares_b(self, layer: str) -> bool:
        return False


class FedHeNN(Local):
    """CKA to the others' representations of public data (Makhija et al. 2022), no weights shared.

    Kept: λ (1 − CKA) between a site's kernel over public data and the mean of all kernels; the loss reaches the
    whole of the site's model. Changed: the kernel is one of cosines, which the server can check, not of raw inner
    products; the public data are the anchors, each in the site's own modality.
    """

    def __init__(self, job: JobConfig):
        super().__init__(job)
        if not job.training.geometry_weight:
            raise ConfigError("geometry_weight 0", where="method 'fedhenn'", expected="more: it is all it shares")
