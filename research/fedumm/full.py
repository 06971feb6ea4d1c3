"""Full fine-tuning of the language tower, as a method of the study: every weight trains and travels."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import torch
from fedgram.config.job import JobConfig
from fedgram.core.aggregate import WeightedMean
from fedgram.model.unified.base import UnifiedModel
from fedgram.model.unified.site_model import UnifiedSiteModel
from fedgram.sites.state import set_rates
from fedgram.sites.unified import UnifiedSite
from fedgram.training.step import train
from peft import PeftModel
from torch import Tensor


def fine_tune(sites: Mapping[str, UnifiedSite], job: JobConfig) -> float:
    """Train the towers in place, and average them by the sites' samples after every round, as FedAvg does.

    Returns the bytes that a site sends in a round.
    """
    towers = {name: _weights(site) for name, site in sites.items()}
    trained = {name: _fully_trained(site, towers[name]) for name, site in sites.items()}
    samples = {name: float(len(site.data["train"])) for name, site in sites.items()}
    for round in range(1, job.training.rounds + 1):
        for site in trained.values():
            set_rates(site.optimizer, job, round)
            train(site, round, job.training.local_steps)
        _average(towers, samples)
    weights = next(iter(towers.values()))
    return float(sum(weight.numel() * weight.element_size() for weight in weights.values()))


def _weights(site: UnifiedSite) -> dict[str, Tensor]:
    """The weights of the base, which from now on train; the adapters are taken off."""
    adapted = site.model.transformer
    if not isinstance(adapted, PeftModel):
        raise TypeError(type(adapted).__name__)
    adapted.unload()
    return dict(site.model.unified.tower.requires_grad_(True).named_parameters())


def _fully_trained(site: UnifiedSite, weights: Mapping[str, Tensor]) -> UnifiedSite:
    """The site with an AdamW over these weights; as in all others, what is local has a group, here empty."""
    groups = [{"params": [*weights.values()], "weight_decay": 0.0}, {"params": []}]
    return replace(site, model=WholeModel(site.model.unified, weights), optimizer=torch.optim.AdamW(groups))


class WholeModel(UnifiedSiteModel):
    """A unified model of which every weight of the tower trains, and which remembers those it began with."""

    def __init__(self, unified: UnifiedModel, weights: Mapping[str, Tensor]):
        super().__init__(unified, unified.tower)
        self._weights = weights
        self._begun = {name: weight.detach().clone() for name, weight in weights.items()}

    @contextmanager
    def untrained(self) -> Generator[None]:
        """Make the tower compute with the weights that it began with."""
        now = {name: weight.data for name, weight in self._weights.items()}
        for name, weight in self._weights.items():
            weight.data = self._begun[name]
        try:
            yield
        finally:
            for name, weight in self._weights.items():
                weight.data = now[name]


@torch.no_grad()
def _average(towers: Mapping[str, Mapping[str, Tensor]], samples: Mapping[str, float]) -> None:
    shapes = {name: tuple(weight.shape) for name, weight in next(iter(towers.values())).items()}
    mean = WeightedMean(shapes, sites=len(towers))
    for site, weights in towers.items():
        mean.add(site, weights, samples[site])
    for name, value in mean.close().items():
        for weights in towers.values():
            weights[name].copy_(value)
