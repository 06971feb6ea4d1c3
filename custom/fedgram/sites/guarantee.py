"""The differential privacy that a site promises in one job, and what it makes public-only for it.

All that leaves follows from public data and from the noised updates of :mod:`fedgram.training.private`. What else
depends on private samples is in :data:`INSTEAD`, with what stands in its place; what cannot be replaced is refused
(:mod:`fedgram.config.privacy`, and by method here).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fedgram.anchors import AnchorSet
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.errors import ConfigError
from fedgram.modalities.base import Modality
from fedgram.model.tasks import Task
from fedgram.model.tasks.labels import Classification
from fedgram.records import Sample
from fedgram.sites.accountant import noise_multiplier

INSTEAD: Mapping[str, str] = {
    "constants of the adapter, of tables and of the length of texts": "from the anchors alone",
    "the classes of a task, mean and spread of a regression": "named in the site file, or the anchors' concepts",
    "training, validation and test": "each group goes where a hash of its own name sends it",
    "anchors in the loss that names concepts": "constants there, so that a sample moves nothing through them",
    "the weight p_k and the number of samples": "1",
    "metrics of rounds, validation and test, floors": "not sent, but CKA, which the anchors alone give",
    "the best round": "the last one",
    "G after training at home": "G before any training",
    "order and noise": "a cipher's stream, keyed by the site's secret and all that the round starts from",
}
METRICS = frozenset({"cka"})  # that leave such a site
_METHODS = ("geo", "local", "ffa", "fedhenn", "creamfl")  # send what follows from trained weights and public data


@dataclass(frozen=True)
class Guarantee:
    """The mechanism of one job at one site, and what it amounts to.

    Attributes:
        epsilon, delta: of all steps together, for a group that is there or not.
        clip: C.
        rate: q, with which a group takes part in a step.
        multiplier: σ; a step's noise has σ C in every coordinate of the summed gradient.
        steps: of all rounds.
        groups: K, that train.
    """

    epsilon: float
    delta: float
    clip: float
    rate: float
    multiplier: float
    steps: int
    groups: int

    @property
    def expected(self) -> float:
        """The number of groups that is expected in a step."""
        return self.rate * self.groups

    def __str__(self) -> str:
        return (
            f"({self.epsilon:g}, {self.delta:g})-differential privacy of each group: clip {self.clip:g}, noise "
            f"{self.multiplier:.3g} × clip, sampling rate {self.rate:.3g}, {self.steps} steps, "
            f"{self.groups} groups"
        )


def guarantee_of(name: str, config: SiteConfig, job: JobConfig, train: Sequence[Sample]) -> Guarantee | None:
    """The guarantee of a site in a job; None where its file promises none.

    Raises:
        ConfigError: δ is too large for so many groups, the job's method sends what no noise covers, or the
            accountant is not installed.
    """
    if (privacy := config.privacy) is None:
        return None
    groups = len({sample.group for sample in train})
    if privacy.delta * groups >= 1:
        raise ConfigError(
            f"delta {privacy.delta:g} with {groups} training groups",
            where=f"{name}: privacy",
            expected=f"below 1 / {groups}: larger ones allow one group to be shown",
        )
    if job.method.name not in _METHODS:
        raise ConfigError(
            f"method {job.method.name!r}, with [privacy]",
            where=f"{name}: privacy",
            expected=" | ".join(_METHODS),
            remedy="it trains or sends what no noise covers: ask for another job, or leave [privacy] out",
        )
    rate = min(1.0, job.training.batch_size / groups)
    steps = job.training.rounds * job.training.local_steps
    multiplier = noise_multiplier(privacy.epsilon, privacy.delta, rate, steps)
    return Guarantee(privacy.epsilon, privacy.delta, privacy.clip, rate, multiplier, steps, groups)


def public_samples(anchors: AnchorSet, modality: Modality) -> list[Sample]:
    """The anchors of a modality, where an encoder would fit itself to private samples."""
    pairs = zip(anchors.covered(modality.name), anchors.contents(modality), strict=True)
    return [
        Sample(id=str(slot), concept=anchors.slots[slot].concept, group=str(slot), content=content)
        for slot, content in pairs
    ]


def answerable(task: Task, samples: Sequence[Sample]) -> Iterator[Sample]:
    """The samples of public classes: those of others are left out without a word, as a word would tell."""
    for sample in samples:
        if not isinstance(task, Classification) or set(sample.labels) <= set(task.classes):
            yield sample
