"""The server's side of a round, with no FLARE and no transformer in it.

The server never loads the base model: what the layers look like is what the sites agree on in round 0.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from fedgram.config import JobConfig
from fedgram.core.aggregate import GramConsensus, WeightedMean
from fedgram.errors import FedgramError, RoundFailed, UpdateRejected
from fedgram.training import contracts
from fedgram.types import GlobalState, ModelSpec, RoundRecord, SiteIntroduction, SiteUpdate


@dataclass(frozen=True)
class ServerState:
    """All that a restarted server needs to go on.

    Attributes:
        run: names this run; the sites keep their own state under it.
        state: what is broadcast.
        velocity: v of the server's momentum, by layer name.
        spec: of the shared transformer, as agreed in round 0.
        refused: sites that may not take part, because of what they said in round 0.
        records: of the rounds so far.
    """

    run: str
    state: GlobalState
    velocity: Mapping[str, Tensor]
    spec: ModelSpec
    refused: tuple[str, ...] = ()
    records: tuple[RoundRecord, ...] = ()


def agree(replies: Iterable[SiteIntroduction], job: JobConfig) -> tuple[ServerState, dict[str, str]]:
    """Round 0: the model that most sites run, B = 0, and the first Ḡ.

    Returns:
        The initial state, and the reason by site for every site that may not take part.

    Raises:
        RoundFailed: fewer than ``min_sites`` sites agree.
    """
    good: dict[str, SiteIntroduction] = {}
    rejected: dict[str, str] = {}
    for reply in sorted(replies, key=lambda r: r.site):
        try:
            contracts.check_introduction(reply, job)
            good[reply.site] = reply
        except UpdateRejected as error:
            rejected[reply.site] = str(error)
    votes = Counter(_spec_key(reply.spec) for reply in good.values())
    winner = max(sorted(votes), key=lambda key: votes[key], default=None)
    for site in [site for site, reply in good.items() if _spec_key(reply.spec) != winner]:
        rejected[site] = f"{site}: another shared transformer (weights or adapted layers differ from most sites')"
        del good[site]
    if len(good) < job.aggregation.min_sites:
        raise RoundFailed(
            f"{len(good)} sites agree on model and anchors",
            where="round 0",
            expected=f"at least {job.aggregation.min_sites}",
            remedy="; ".join(rejected.values()) or "see why the sites did not answer",
        )
    spec = next(iter(good.values())).spec
    consensus = GramConsensus(job.anchors.slots, job.aggregation.consensus)
    for reply in good.values():
        consensus.add(reply.site, reply.gram, reply.slots)
    zeros = {name: torch.zeros(d_out, rank) for name, (d_out, rank, _) in spec.shapes.items()}
    state = GlobalState(0, job.anchors.sha256, spec.backbone, zeros, {}, consensus.close())
    return ServerState(uuid.uuid4().hex, state, dict(zeros), spec, tuple(sorted(rejected))), rejected


def _spec_key(spec: ModelSpec) -> str:
    return repr((spec.backbone, sorted((name, tuple(shape)) for name, shape in spec.shapes.items())))


class Round:
    """One round at the server: replies are checked and added as they arrive, in any order.

    Memory does not grow with the number of sites (see :mod:`fedgram.core.aggregate`).
    """

    def __init__(self, before: ServerState, job: JobConfig, sites: Iterable[str]):
        self._before, self._job, self._asked = before, job, tuple(sites)
        self._started = time.perf_counter()
        rules, layers = job.aggregation, before.state.direction
        shapes = {f"B/{name}": tuple(b.shape) for name, b in layers.items()}
        if job.adapter.shares_magnitude:
            shapes |= {f"m/{name}": tuple(b.shape[:1]) for name, b in layers.items()}
        self._mean = WeightedMean(shapes, rules.max_share)
        self._consensus = GramConsensus(job.anchors.slots, rules.consensus)
        self._metrics: dict[str, dict[str, float]] = {}
        self._bytes: dict[str, int] = {}
        self._norms: dict[str, float] = {}
        self._restarts: dict[str, int] = {}
        self._samples: dict[str, int] = {}
        self.rejected: dict[str, str] = {}

    @property
    def accepted(self) -> tuple[str, ...]:
        """Sites whose reply counts, in alphabetical order."""
        return tuple(sorted(self._metrics))

    def add(self, reply: SiteUpdate) -> None:
        """Check one reply and add it.

        Raises:
            UpdateRejected: it breaks the contract; it then has left no trace but the reason.
        """
        try:
            contracts.check_update(reply, self._before.state, self._job)
            tensors = {f"B/{name}": delta for name, delta in reply.delta.items()}
            tensors |= {f"m/{name}": m for name, m in reply.magnitude.items()}
            self._mean.add(reply.site, tensors, reply.weight)
        except FedgramError as error:
            self.reject(reply.site, str(error))
            raise UpdateRejected(error.problem, where=reply.site, expected=error.expected) from error
        self._consensus.add(reply.site, reply.gram, reply.slots)
        sent = [*tensors.values(), reply.gram]
        self._bytes[reply.site] = sum(t.numel() * t.element_size() for t in sent)
        self._norms[reply.site] = contracts.update_norm(reply.delta)
        self._metrics[reply.site] = dict(reply.metrics)
        self._samples[reply.site] = reply.samples
        if reply.restarts:
            self._restarts[reply.site] = reply.restarts

    def reject(self, site: str, reason: str) -> None:
        """Note that a site's reply does not count."""
        self.rejected.setdefault(site, reason)

    def close(self) -> ServerState:
        """B ← B + η v with v ← β v + Σ p_k ΔB_k / Σ p_k; mean m; Ḡ; the record of the round.

        Raises:
            RoundFailed: fewer than ``min_sites`` replies count.
        """
        rules, before = self._job.aggregation, self._before
        number = before.state.round + 1
        if len(self.accepted) < rules.min_sites:
            raise RoundFailed(
                f"{len(self.accepted)} good replies",
                where=f"round {number}",
                expected=f"at least {rules.min_sites}",
                remedy="; ".join(self.rejected.values()) or "see why the sites did not answer",
            )
        means = self._mean.close()
        mean = {k.removeprefix("B/"): v for k, v in means.items() if k.startswith("B/")}
        velocity = {k: (rules.server_momentum * before.velocity[k].double() + mean[k]).float() for k in mean}
        direction = {k: b + rules.server_learning_rate * velocity[k] for k, b in before.state.direction.items()}
        magnitude = {k.removeprefix("m/"): v.float() for k, v in means.items() if k.startswith("m/")}
        state = replace(
            before.state,
            round=number,
            direction=direction,
            magnitude=magnitude,
            consensus=self._consensus.close(),
        )
        record = self._record(number, contracts.update_norm(mean))
        return replace(before, state=state, velocity=velocity, records=(*before.records, record))

    def _record(self, number: int, mean_norm: float) -> RoundRecord:
        heard = {*self.accepted, *self.rejected}
        return RoundRecord(
            round=number,
            shares=self._mean.shares(),
            metrics={site: self._metrics[site] for site in self.accepted},
            payload_bytes={site: self._bytes[site] for site in self.accepted},
            rejected=dict(sorted(self.rejected.items())),
            missing=tuple(sorted(set(self._asked) - heard)),
            mean_update_norm=mean_norm,
            update_norms={site: self._norms[site] for site in self.accepted},
            seconds=time.perf_counter() - self._started,
            restarts=dict(sorted(self._restarts.items())),
            samples=dict(sorted(self._samples.items())),
        )
