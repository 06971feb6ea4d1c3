"""Differential privacy at the sites that are attacked, and the truth about who was drawn."""

from __future__ import annotations

from dataclasses import replace

import torch
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import SiteConfig
from fedgram.core.privacy import poisson_sample
from fedgram.records import GlobalState, Sample, SiteUpdate
from fedgram.sites.draws import private_draws
from fedgram.sites.guarantee import guarantee_of
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from fedgram.training.private import digest_of, rows_by_group
from torch import Tensor

DELTA = 1e-5


def with_noise(config: SiteConfig, epsilon: float) -> SiteConfig:
    """The settings of a site that promises (ε, δ)-differential privacy; as they are with ε = 0."""
    return replace(config, privacy=PrivacyConfig(epsilon=epsilon, delta=DELTA)) if epsilon else config


def promised(site: SingleSite) -> SingleSite:
    """A stand-in with the guarantee for its own number of groups."""
    groups = [Sample(id=g, concept="", group=g, content=None) for g in site.data["train"].groups]
    return replace(site, guarantee=guarantee_of(site.name, site.config, site.job, groups))


def reply(site: SingleSite, state: GlobalState) -> SiteUpdate:
    """The site's reply in a round, in a job whose budget nobody has to keep on disk."""
    return rounds.local_round(site, state, charge=lambda _: None)


def rows_of(site: SingleSite, state: GlobalState) -> Tensor:
    """The samples that a site takes in the first step of a round: the truth that an attack is held against."""
    if site.guarantee is None:
        return next(site.batches(state.round + 1, 1)).rows
    rounds.adopt(site, state)
    draws = private_draws(site.name, site.config, bytes.fromhex(digest_of(site, state)))
    chosen = poisson_sample(draws.uniform(site.guarantee.groups), site.guarantee.rate).tolist()
    return torch.cat([torch.empty(0, dtype=torch.long), *(rows_by_group(site)[k] for k in chosen)])
