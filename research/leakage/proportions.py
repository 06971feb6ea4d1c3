"""How much of each class does a site have? Ridge regression on shadow sites whose shares of the classes are known.

Each shadow has as many samples, their classes dealt by Dirichlet(1), and answers the first round. Each in turn is
left out and foretold from the others. The score is the part of the variance of the shares that is explained, R²;
chance is the same with the shares dealt to other shadows.
"""

from __future__ import annotations

from pathlib import Path

import torch
from fedgram.records import SiteUpdate
from fedgram.sites.single import SingleSite
from fedgram.training import rounds
from torch import Tensor

from research.leakage.measures import Finding
from research.leakage.sites import SITES, Setup, begin, flat, made, secret_of, some, stand_in, total

KNOWS = ("start", "guess")
SHADOWS, SAMPLES = 48, 60
TRAINING = (("rounds", 1), ("local_steps", 4), ("batch_size", 20))
_RIDGE, _SHUFFLED = 0.1, 40


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
    sent = [_reply(shadow, state) for shadow in shadows]
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
            found[view, f"{what}: R² of the shares"] = _finding(features, shares, generator)
    return found


def explained(features: Tensor, shares: Tensor) -> float:
    """R² of ridge regression with each site left out: (S, P), (S, C); 0 is as good as the mean of the others."""
    features = features.double() - features.double().mean(0)
    kernel = features @ features.T
    kernel = kernel / kernel.diagonal().mean().clamp_min(1e-30)
    centred = shares.double() - shares.double().mean(0)
    inverse = torch.linalg.inv(kernel + _RIDGE * torch.eye(len(shares), dtype=torch.float64))
    n = len(shares)
    hat = torch.eye(n, dtype=torch.float64) - _RIDGE * inverse  # K (K + λ)⁻¹
    hat = hat + 1 / n  # the mean is fitted too
    errors = (centred - hat @ centred) / (1 - hat.diagonal())[:, None]
    alone = centred * n / (n - 1)  # the error of the mean of the others
    return 1 - (errors.square().sum() / alone.square().sum()).item()


def _finding(features: Tensor, shares: Tensor, generator: torch.Generator) -> Finding:
    blind = torch.tensor(
        [explained(features, shares[torch.randperm(len(shares), generator=generator)]) for _ in range(_SHUFFLED)]
    )
    return Finding(explained(features, shares), blind.mean().item(), blind.std().item(), len(shares))


def _deal(targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows of a site whose classes were dealt by Dirichlet(1), and the shares that came of it."""
    classes = int(targets.max()) + 1
    weights = -torch.rand(classes, generator=generator).log()
    order = torch.rand(len(targets), generator=generator).log() / weights[targets]  # Efraimidis and Spirakis 2006
    rows = order.topk(SAMPLES).indices
    return rows, torch.bincount(targets[rows], minlength=classes) / SAMPLES


def _reply(shadow: SingleSite, state: object) -> SiteUpdate:
    rounds.reset(shadow)
    return rounds.local_round(shadow, state)  # pyright: ignore[reportArgumentType]
