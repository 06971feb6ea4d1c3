"""The one protocol of a site, whatever it has: one modality, two of the same samples, or a unified model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.methods import Method
from fedgram.methods.base import SiteView, TaskLoss
from fedgram.records import AnchorTokens
from fedgram.sites.guarantee import Guarantee


class Site(SiteView, Protocol):
    """A site as rounds, sessions and results see it.

    Attributes:
        name: of the site.
        config, job: where its data are, and what is computed.
        modality, data, anchors, model, spec, optimizer: see :class:`~fedgram.methods.base.SiteView`.
        heldout: the held-out anchors, where the job has some.
        method: what is shared with the other sites.
        initial: the local state before any training.
        groups: by part that the site shares with its like, the name of its group; see :mod:`fedgram.sites.groups`.
        device: where the model is.
        guarantee: the differential privacy of what leaves; None where the site's file promises none.
    """

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> SiteConfig: ...
    @property
    def job(self) -> JobConfig: ...
    @property
    def heldout(self) -> AnchorTokens | None: ...
    @property
    def method(self) -> Method: ...
    @property
    def initial(self) -> Mapping[str, Tensor]: ...
    @property
    def groups(self) -> Mapping[str, str]: ...
    @property
    def device(self) -> torch.device: ...
    @property
    def guarantee(self) -> Guarantee | None: ...

    def batches(self, round: int, steps: int) -> Iterator[Any]:
        """The batches of a round's steps, the same for the same seed, site and round in any process."""
        ...

    def task_loss(self, batch: Any) -> TaskLoss:
        """The loss of a batch on the site's own task."""
        ...

    def pair_loss(self, batch: Any) -> Tensor | None:
        """The contrastive loss between the two modalities of a batch of pairs; None where there are no pairs."""
        ...

    def evaluate(self, split: str) -> dict[str, float]:
        """The metrics of a split; none where it is empty."""
        ...

    def validation_loss(self) -> float | None:
        """The loss of the site's own task on the validation split; None where that is empty."""
        ...

    def floors(self) -> dict[str, float]:
        """Test scores that take no training of the model, and how many test samples and groups there are."""
        ...

    def save(self, folder: Path, metrics: Mapping[str, float], *, home: bool = False) -> None:
        """Write the model as it is now, and all that is needed to use it.

        Args:
            metrics: on the site's test split, for the model card.
            home: whether it was trained alone: then no guarantee holds for it.
        """
        ...


def derive_generator(*parts: object) -> torch.Generator:
    """A CPU generator that depends on nothing but the given parts, in any process."""
    digest = sha256("|".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def shuffled(count: int, size: int, generator: torch.Generator, *, distinct: bool = False) -> Iterator[Tensor]:
    """Rows of shuffled batches, epoch after epoch, without end; empty ones where there is nothing.

    Args:
        count: N, of the samples.
        size: of a batch; N where that is less.
        distinct: no batch holds a sample twice: what is left of an epoch is dropped.
    """
    size, order = min(size, count), torch.empty(0, dtype=torch.long)
    while True:
        if len(order) < size:
            fresh = torch.randperm(count, generator=generator)
            order = fresh if distinct else torch.cat([order, fresh])
        rows, order = order[:size], order[size:]
        yield rows
