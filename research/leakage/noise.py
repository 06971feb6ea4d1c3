"""Differential privacy at the sites that are attacked."""

from __future__ import annotations

from fedgram.config.site import SiteConfig
from fedgram.records import GlobalState
from fedgram.sites.single import SingleSite
from torch import Tensor


def with_noise(config: SiteConfig, epsilon: float) -> SiteConfig:
    """The settings of a site that promises (ε, δ)-differential privacy; as they are with ε = 0."""
    if epsilon:
        raise NotImplementedError
    return config


def is_private(site: SingleSite) -> bool:
    """Whether a site promises differential privacy."""
    return False


def promised(site: SingleSite, groups: int) -> SingleSite:
    """A stand-in with the guarantee for its own number of groups."""
    return site


def rows_of(site: SingleSite, state: GlobalState) -> Tensor:
    """The samples that a site will take in the first step of a round: the truth that an attack is held against."""
    return next(site.batches(state.round + 1, 1)).rows
