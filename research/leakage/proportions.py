"""A site's share of each class, by ridge regression on shadow sites whose shares are known.

Each shadow has as many samples, their classes dealt by Dirichlet(1), and answers the first round. Each in turn is
left out and foretold from the others. The score is the part of the variance of the shares that is explained, R²;
chance is the same with the shares dealt to other shadows, a thousand times: what so comes of nothing leans to one
side, so its interval is that of its quantiles.
"""

from __future__ import annotations

from pathlib import Path

import torch
from fedgram.records import GlobalState, SiteUpdate
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from torch import Tensor

from research.leakage.measures import Finding
from research.leakage.noise import reply
from research.leakage.sites import SITES, Setup, begin, flat, made, secret_of, some, stand_in, total

KNOWS = ("start", "guess")
SHADOWS, SAMPLES = 48, 60
TRAINING = (("rounds", 1), ("local_steps", 4), ("batch_size", 20))
_RIDGES, _SHUFFLED = (0.01, 0.1, 1.0, 10.0), 1000


def attack(knows: str, epsilon: float, seed: int, folder: Path) -> dict[tuple[str, str], Finding]:
    """The findings by view and measure."""
    site = made(Setup(knows == "start", epsilon, TRAINING, seed), folder)
    generator = torch.Generator().manual_seed(seed)
    dealt = [_deal(site.data["train"].targets, generator) for _ in range(SHADOWS)]
    shares = torch.stack([share for _, share in dealt])
    shadows = [
        stand_in(site, rows, secret_of("shadow", seed, k), f"site-{k}") for k, (rows, _) in enumerate(dealt)
    ]
    state = begin(shadows[:SITES]).state
    sent = [_answer(shadow, state) for shadow in shadows]
    groups = {
        "own": [[update] for update in sent],
        "sum": [
            [update, *(sent[(k + 1 + j) % SHADOWS] for j in some(SHADOWS - 1, SITES - 1, (seed, k)))]
            for k, update in enumerate(sent)
        ],
    }
    found = {}
    for view, seen in groups.items():
        change = torch.stack([flat(total(part)) for part in seen])
        gram = torch.stack([torch.stack([u.gram for u in part]).sum(0).flatten() for part in seen])
        for what, features in (("ΔB", change), ("G", gram)):
            found[view, f"{what}: R² of the shares"] = against_chance(features, shares, generator)
    return found


def explained(features: Tensor, shares: Tensor, ridge: float) -> Tensor:
    """R² of ridge regression with each site left out: (S, P), (…, S, C) → (…); 0 is as good as the others' mean.

    Args:
        ridge: as a multiple of the mean square of a site's features.
    """
    features, n = features.double() - features.double().mean(0), len(features)
    kernel = features @ features.T
    kernel = kernel / kernel.diagonal().mean().clamp_min(1e-30)
    centred, eye = shares.double() - shares.double().mean(-2, keepdim=True), torch.eye(n, dtype=torch.float64)
    hat = eye - ridge * torch.linalg.inv(kernel + ridge * eye) + 1 / n  # K (K + λ)⁻¹, and the mean
    errors = (centred - hat @ centred) / (1 - hat.diagonal())[:, None]
    alone = centred * n / (n - 1)  # the error of the mean of the others
    return 1 - errors.square().sum((-2, -1)) / alone.square().sum((-2, -1))


def against_chance(features: Tensor, shares: Tensor, generator: torch.Generator) -> Finding:
    """The highest R² over all ridges, and the same of one who guesses: (S, P), (S, C)."""
    orders = torch.rand(_SHUFFLED, len(shares), generator=generator).argsort(1)
    tried = torch.cat([shares[None], shares[orders]])
    found = torch.stack([explained(features, tried, ridge) for ridge in _RIDGES]).amax(0)
    chance = found[1:].mean()
    error = (found[1:].quantile(0.975) - chance) / 1.96
    return Finding(found[0].item(), chance.item(), error.item(), len(shares))


def _deal(targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows of a site whose classes were dealt by Dirichlet(1), and the shares that came of it."""
    classes = int(targets.max()) + 1
    weights = -torch.rand(classes, generator=generator).log()
    order = torch.rand(len(targets), generator=generator).log() / weights[targets]  # Efraimidis and Spirakis 2006
    rows = order.topk(SAMPLES).indices
    return rows, torch.bincount(targets[rows], minlength=classes) / SAMPLES


def _answer(shadow: SingleSite, state: GlobalState) -> SiteUpdate:
    rounds.reset(shadow)
    return reply(shadow, state)
