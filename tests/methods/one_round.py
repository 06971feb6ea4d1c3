"""The toy federation with any method, and one round of it by hand."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from fedgram.methods import METHODS
from fedgram.methods.base import PLAIN, merged
from fedgram.records import SiteUpdate
from fedgram.training import rounds
from fedgram.training.server import Round, ServerState, agree
from torch import Tensor
from toy import Toy


def with_method(toy: Toy, name: str, **changes: object) -> Toy:
    """The toy with another method, and a second site of the red modality."""
    sites = {**toy.sites, "crimson": toy.sites["red"]}
    allowed = {site: dataclasses.replace(config, methods=(name,)) for site, config in sites.items()}
    plain = METHODS[name].settings if name in METHODS and name != "geo" else PLAIN
    settings = merged(
        plain,
        {
            "method": {"name": name, "strength": 0.5},
            "training": {**plain["training"], "rounds": 2, "local_steps": 4},
        },
    )
    return dataclasses.replace(toy, sites=allowed).with_job(**settings, baseline=False).with_job(**changes)


class Step:
    """One round, by hand: the sites' updates, and the state before and after."""

    def __init__(self, run: Toy, count: int = 1):
        self.run = run
        self.sites = {name: run.open(name) for name in run.sites}
        self.after, _ = agree([rounds.introduce(site) for site in self.sites.values()], run.job)
        for _ in range(count):
            self.before = self.after
            self.updates = {name: rounds.local_round(site, self.before.state) for name, site in self.sites.items()}
            self.after = self.close(self.before, self.updates.values())

    def close(self, before: ServerState, updates: Iterable[SiteUpdate]) -> ServerState:
        current = Round(before, self.run.job, self.sites)
        for update in updates:
            current.add(update)
        return current.close()

    @property
    def layer(self) -> str:
        return next(iter(self.before.spec.shapes))

    def mean(self, values: dict[str, Tensor]) -> Tensor:
        """Weighted by samples, the slow way."""
        total = sum(self.updates[site].weight for site in values)
        return sum(self.updates[site].weight * value.double() for site, value in values.items()) / total
