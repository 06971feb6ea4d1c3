"""FedHeNN (Makhija et al. 2022): CKA to the others' representations of public data, no weights shared.

Kept: λ (1 − CKA) between a site's kernel over public data and the mean of all kernels; the loss reaches the
whole of the site's model. Changed: the kernel is one of cosines, which the server can check, not of raw inner
products; the public data are the anchors, each in the site's own modality.
"""

from __future__ import annotations

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods.base import PLAIN, merged
from fedgram.methods.local import Local

_GRAMS = {"geometry_weight": 1.0, "cka": "centered", "geometry_trains": "pipeline"}


class FedHeNN(Local):
    """The geometry loss alone, towards Ḡ."""

    name = "fedhenn"
    title = "FedHeNN"
    source = "Makhija et al. 2022"
    shares = "Ḡ"
    settings = merged(PLAIN, {"training": _GRAMS})

    def __init__(self, job: JobConfig):
        super().__init__(job)
        if not job.training.geometry_weight:
            raise ConfigError("geometry_weight 0", where="method 'fedhenn'", expected="more: it is all it shares")
