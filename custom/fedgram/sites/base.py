"""What rounds, sessions and results see of a site, whatever it has: one modality, or a unified model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.methods import Method
from fedgram.methods.base import Named
from fedgram.records import AnchorTokens, ModelSpec, Tokens


class Samples(Protocol):
    """The samples of one split."""

    def __len__(self) -> int: ...
    def take(self, samples: Tensor) -> Tokens:
        """The tokens of some of them."""
        ...


class Participant(Protocol):
    """The attributes are those of :class:`fedgram.sites.single.Site`. How it trains, is evaluated and is kept is
    registered for its class with ``train`` and ``evaluate`` of :mod:`fedgram.training.local` and ``save`` of
    :mod:`fedgram.sites.saved`.
    """

    @property
    def name(self) -> str: ...
    @property
    def config(self) -> SiteConfig: ...
    @property
    def job(self) -> JobConfig: ...
    @property
    def modality(self) -> Named: ...
    @property
    def data(self) -> Mapping[str, Any]:
        """:class:`Samples` by split."""
        ...

    @property
    def anchors(self) -> AnchorTokens: ...
    @property
    def heldout(self) -> AnchorTokens | None: ...
    @property
    def method(self) -> Method: ...
    @property
    def model(self) -> Any: ...
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def optimizer(self) -> torch.optim.Optimizer: ...
    @property
    def initial(self) -> Mapping[str, Tensor]: ...
    @property
    def device(self) -> torch.device: ...
