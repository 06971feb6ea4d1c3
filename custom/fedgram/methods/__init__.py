"""The methods that a job may run. ``geo`` is fedgram's own; the others are what it is compared with.

| name | what is shared | source |
|---|---|---|
| ``geo`` | B (and m), Ḡ | Eklund 2026: GeoLoRA, GeoDoRA, every setting of the job |
| ``local`` | nothing | |
| ``fedit`` | A and B, each averaged | Zhang et al. 2024 |
| ``ffa`` | B, A frozen | Sun et al. 2024, FFA-LoRA |
| ``fedsa`` | A | Guo et al. 2025, FedSA-LoRA |
| ``flora`` | A and B, their products summed into the base | Wang et al. 2024 |
| ``fedex`` | as ``fedit``, with the exact residual | Singhal et al. 2025, FedEx-LoRA |
| ``fedprox`` | as ``fedit``, with a proximal term | Li et al. 2020 |
| ``fedproto`` | class means | Tan et al. 2022 |
| ``creamfl`` | representations of the anchors | Yu et al. 2023 |
| ``fedcola`` | A and B of the attention layers | Sun et al. 2024 |
| ``fedhenn`` | Ḡ | Makhija et al. 2022 |
| ``per_modality`` | A and B within a modality | |
| ``xflora`` | half of the ranks, the rest within a modality | X-FLoRA, 2025 |

FedAdam (Reddi et al. 2021) is ``fedit`` with ``aggregation.server_optimizer = "adam"``. Each file says what it
kept of the original, and what had to change.
"""

from __future__ import annotations

from fedgram.config.job import JobConfig, MethodName
from fedgram.config.site import SiteConfig
from fedgram.errors import ConfigError
from fedgram.methods.alone import FedHeNN, Local
from fedgram.methods.base import Method
from fedgram.methods.by_modality import ModalityExperts, PerModality
from fedgram.methods.creamfl import CreamFL
from fedgram.methods.fedcola import SharedAttention
from fedgram.methods.fedex import FedExLoRA
from fedgram.methods.fedit import FedIT
from fedgram.methods.fedproto import FedProto
from fedgram.methods.fedprox import FedProx
from fedgram.methods.fedsa import FedSALoRA
from fedgram.methods.ffa import FFALoRA
from fedgram.methods.flora import FLoRA

__all__ = ["METHODS", "Method", "method_of", "require_allowed"]

METHODS: dict[MethodName, type[Method]] = {
    "geo": Method,
    "local": Local,
    "fedit": FedIT,
    "ffa": FFALoRA,
    "fedsa": FedSALoRA,
    "flora": FLoRA,
    "fedex": FedExLoRA,
    "fedprox": FedProx,
    "fedproto": FedProto,
    "creamfl": CreamFL,
    "fedcola": SharedAttention,
    "fedhenn": FedHeNN,
    "xflora": ModalityExperts,
    "per_modality": PerModality,
}


def method_of(job: JobConfig) -> Method:
    """The method of a job.

    Raises:
        ConfigError: the job has settings that this method has no meaning for.
    """
    return METHODS[job.method.name](job)


def require_allowed(site: str, config: SiteConfig, job: JobConfig) -> None:
    """Raises ConfigError unless the site's own file allows the job's method."""
    name = job.method.name
    if name not in config.methods:
        what = METHODS[name].sends_what or "B, G and one weight"
        raise ConfigError(
            f"the job runs method {name!r}, which sends {what}",
            where=f"{site}: methods",
            expected=", ".join(config.methods),
            remedy=f"if that may leave this site, add {name!r} to methods in its file",
        )
