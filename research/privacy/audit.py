"""An audit of the mechanism in one run, by canaries: ``python -m research.privacy.audit``.

Canaries are groups of noise with a label drawn at random, each in the site's data by the toss of a coin. Whoever
sees every noised gradient and, as no server does, every weight, guesses who was there, from what each canary would
have given: the best linear estimate of the coins. So many right guesses bound ε from below, with 95 % confidence
(Steinke, Nasr and Jagielski 2023). A bound above the ε that was promised is a fault in the code or the accountant.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from fedgram.config.job import JobConfig
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.core.privacy import part_factors
from fedgram.model.per_group import group_gradients
from fedgram.records import GlobalState, LabelledTokens, Tokens
from fedgram.sites.single import SingleSite, open_single
from fedgram.training import private, rounds
from fedgram.training.server import agree
from scipy.stats import binom
from torch import Tensor

from research.evidence.federations import synthetic
from research.pool import carry_out
from research.privacy.trial import DELTA, job_of
from research.rows import RESULTS, Row, append
from research.worth.trial import one_core

TABLE = RESULTS / "privacy-audit.csv"
ORDER = ("epsilon", "noise", "canaries", "seed")
CONFIDENCE = 0.95
_SITE, _STEPS = "radar-1", 12


@dataclass(frozen=True)
class Audit:
    """A run to be carried out; its fields are the first columns of the table of results.

    Attributes:
        epsilon: that is promised.
        noise: 1, or 0 where it is switched off and the promise is a lie.
        canaries: the number of coins.
        seed: of coins, canaries and noise.
    """

    epsilon: float
    noise: int
    canaries: int
    seed: int


def lower_bound(canaries: int, guesses: int, right: int, delta: float) -> float:
    """The ε that a mechanism of smaller ε would make so many right guesses improbable with: theorem 5.2, at 95 %.

    Args:
        canaries: m, the number of coins.
        guesses: r, of them; on the others nothing is said.
        right: v.
    """
    low, high = 0.0, 50.0
    if _probability(canaries, guesses, right, low, delta) > 1 - CONFIDENCE:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        unlikely = _probability(canaries, guesses, right, middle, delta) <= 1 - CONFIDENCE
        low, high = (middle, high) if unlikely else (low, middle)
    return low


def _probability(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """At most this is the chance of ``right`` right guesses under (ε, δ)."""
    truth = 1 / (1 + math.exp(-epsilon))
    beta = float(binom.sf(right - 1, guesses, truth))
    alpha, total = 0.0, 0.0
    for i in range(1, right + 1):
        total += float(binom.pmf(right - i, guesses, truth))
        alpha = max(alpha, total / i)
    return min(1.0, beta + alpha * delta * 2 * canaries)


def run(audit: Audit, folder: Path) -> Row:
    """Train one site privately with some of the canaries in its data, and guess which.

    Args:
        folder: of the federation's files.
    """
    site, state = opened(folder, audit)
    draws = torch.Generator().manual_seed(audit.seed)
    canaries = made(site, audit.canaries, draws)
    coins = torch.rand(audit.canaries, generator=draws) < 0.5
    inside, watch = with_groups(site, canaries, coins), Watch(canaries)
    with watched(watch):
        rounds.local_round(inside, state, charge=lambda start: None)
    most = audit.canaries // 4  # of the surest guesses, to either side
    order = watch.estimate(inside.guarantee).argsort()
    right = int(coins[order[-most:]].sum()) + int((~coins[order[:most]]).sum())
    bound = lower_bound(audit.canaries, 2 * most, right, DELTA)
    return {"guesses": 2 * most, "right": right, "lower bound": bound}


def opened(folder: Path, audit: Audit) -> tuple[SingleSite, GlobalState]:
    """One site that promises ε over all its steps, in each of which all groups take part, and the first state."""
    federation = synthetic.build(folder, seed=0)
    plain = to_dict(job_of(federation, 0))
    plain["training"] |= {"rounds": 1, "local_steps": _STEPS, "batch_size": 2**16}
    plain["aggregation"] |= {"min_sites": 1}
    job = from_dict(JobConfig, plain, "audit")
    config = replace(
        federation.sites[_SITE],
        privacy=PrivacyConfig(epsilon=audit.epsilon, delta=DELTA),
        secret=f"the secret of audit {audit.seed:032d}",
    )
    site = open_single(_SITE, config, job)
    if not audit.noise and site.guarantee is not None:
        site = replace(site, guarantee=replace(site.guarantee, multiplier=0.0))
    return site, agree([rounds.introduce(site)], job)[0].state


def made(site: SingleSite, count: int, draws: torch.Generator) -> LabelledTokens:
    """Canaries: tokens of noise as large as the site's own, with a label each."""
    own = site.data["train"]
    shape = (count, *own.tokens.values.shape[1:])
    values = torch.randn(shape, generator=draws) * own.tokens.values.std() + own.tokens.values.mean()
    targets = torch.randint(int(own.targets.max()) + 1, (count,), generator=draws)
    names = [own.concepts[int((own.targets == t).nonzero()[0])] for t in targets]
    mask = torch.ones(shape[:2], dtype=torch.bool)
    return LabelledTokens(tokens=Tokens(values, mask), targets=targets, concepts=names, groups=_names(count))


def with_groups(site: SingleSite, canaries: LabelledTokens, there: Tensor) -> SingleSite:
    """The site whose own data are the canaries that are there; how many of them there are is no secret."""
    rows = there.nonzero()[:, 0]
    train = LabelledTokens(
        tokens=canaries.tokens[rows],
        targets=canaries.targets[rows],
        concepts=tuple(canaries.concepts[int(i)] for i in rows),
        groups=tuple(canaries.groups[int(i)] for i in rows),
    )
    bound = None if site.guarantee is None else replace(site.guarantee, groups=len(rows))
    return replace(site, data={**site.data, "train": train, "fit": train}, guarantee=bound)


class Watch:
    """All that was released, as far as it speaks of the canaries: over steps, G Gᵀ and G (Σ_k clip(g_k) + noise).

    Args:
        canaries: of which the rows of G are the clipped gradients.
    """

    def __init__(self, canaries: LabelledTokens):
        self.canaries, count = canaries, len(canaries)
        self._gram = torch.zeros(count, count, dtype=torch.float64)
        self._seen = torch.zeros(count, dtype=torch.float64)

    def add(self, gradients: Tensor, released: Tensor) -> None:
        """Take in one parameter at one step, (m, n) and (n,)."""
        self._gram += gradients @ gradients.T
        self._seen += gradients @ released

    def estimate(self, guarantee: Any) -> Tensor:
        """The best linear estimate of the coins, of mean ½ and variance ¼ each, under noise σ C: (m,)."""
        eye = torch.eye(len(self._seen), dtype=torch.float64)
        ridge = 4 * (guarantee.multiplier * guarantee.clip) ** 2 + 1e-9
        return torch.linalg.solve(self._gram + ridge * eye, self._seen - self._gram.sum(1) / 2)


@contextmanager
def watched(watch: Watch) -> Generator[None]:
    """Show a watch every step inside."""
    clipped, noised = private.clipped_gradient, private.noised_mean
    own: dict[str, Tensor] = {}
    waiting: list[str] = []

    def watched_gradient(
        site: SingleSite, groups: Sequence[Tensor], anchors: Tensor | None, consensus: Tensor, clip: float
    ) -> dict[str, Tensor]:
        everyone = replace(site, data={**site.data, "train": watch.canaries, "fit": watch.canaries})
        own.update(_each(everyone, anchors, consensus, clip))
        total = clipped(site, groups, anchors, consensus, clip)
        waiting[:] = list(total)
        return total

    def watched_mean(total: Tensor, normal: Tensor, multiplier: float, clip: float, expected: float) -> Tensor:
        released = noised(total, normal, multiplier, clip, expected)
        watch.add(own[waiting.pop(0)].flatten(1).double(), released.flatten() * expected)
        return released

    private.clipped_gradient, private.noised_mean = watched_gradient, watched_mean
    try:
        yield
    finally:
        private.clipped_gradient, private.noised_mean = clipped, noised


def _each(site: SingleSite, anchors: Tensor | None, consensus: Tensor, clip: float) -> dict[str, Tensor]:
    """The clipped gradient of every canary, (m, …) by parameter."""
    groups = private.rows_by_group(site)
    with group_gradients(site.model, [1] * len(groups)) as found:
        private.group_losses(site, groups, anchors, consensus).sum().backward()
    factors = part_factors(found, clip)
    return {k: g * factors[k].to(g).view(-1, *[1] * (g.ndim - 1)) for k, g in found.items()}


def _names(count: int) -> list[str]:
    return [f"canary {i}" for i in range(count)]


def audits() -> Iterator[Audit]:
    """Each promise kept and broken, with three seeds."""
    for seed, epsilon, noise in product(range(3), (1.0, 3.0), (1, 0)):
        yield Audit(epsilon, noise, 200, seed)


def main() -> None:
    """Carry out what is missing."""
    parser = argparse.ArgumentParser(prog="python -m research.privacy.audit", description=__doc__)
    folder = Path("results/privacy/synthetic")
    parser.add_argument("--folder", type=Path, default=folder, help="the federation's files")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no run begins")
    args = parser.parse_args()
    work, keep = partial(run, folder=args.folder.resolve()), partial(append, TABLE, order=ORDER)
    carry_out("audit", audits(), work, keep, one_core, kind=Audit, table=TABLE, minutes=args.minutes)


if __name__ == "__main__":
    main()
