"""Training with all data in one place: what the federation may not do, as the bound above it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from fedgram.model.site_model import SiteModel
from fedgram.sites.single import SingleSite
from fedgram.sites.state import make_optimizer


def train(sites: Mapping[str, SingleSite]) -> dict[str, SingleSite]:
    """One shared update (LoRA, A and B), a linear adapter and a head a site; every step sees a batch of each site.

    The optimiser takes as many steps as a site of a federation does, on the sum of the sites' losses, so that
    every site's data are seen as often, and no step waits for a round to be averaged.

    Args:
        sites: opened with a job in which A trains. Their models are used up.

    Returns:
        The sites with the model that all have trained.
    """
    shared = next(iter(sites.values())).model.transformer
    joined = {
        name: replace(site, model=SiteModel(list(site.model.adapters), shared, site.model.head).eval())  # pyright: ignore[reportArgumentType]
        for name, site in sites.items()
    }
    groups = [make_optimizer(site.model, site.job).param_groups for site in joined.values()]
    optimizer = torch.optim.AdamW([groups[0][0], *(local for _, local in groups)])
    settings = next(iter(joined.values())).job.training
    for round in range(1, settings.rounds + 1):
        rows = {name: site.batches(round, settings.local_steps) for name, site in joined.items()}
        for _ in range(settings.local_steps):
            optimizer.zero_grad()
            for name, site in joined.items():
                data, chosen = site.data["fit"], next(rows[name]).rows
                loss = site.task.loss(site.model(data.tokens[chosen]), data.targets[chosen])
                loss.backward()
            optimizer.step()
    return joined
