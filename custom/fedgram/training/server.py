"""The server's side of a round, with no FLARE and no transformer in it.

The server never loads the base model: what the layers look like is what the sites agree on in round 0.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.aggregate import GramConsensus, WeightedMean
from fedgram.core.server_step import ServerStep
from fedgram.errors import FedgramError, RoundFailed, UpdateRejected
from fedgram.methods import method_of
from fedgram.methods.base import Closing
from fedgram.records import GlobalState, ModelSpec, RoundRecord, SiteIntroduction, SiteUpdate, below
from fedgram.training import contracts
from fedgram.training.groups import Groups, form_groups

_B, _M, _EXTRA = "B/", "m/", "extra/"  # of the tensors in one mean
_SHARED = "shared/"  # of moments


@dataclass(frozen=True, kw_only=True)
class ServerState:
    """All that a restarted server needs to go on.

    Attributes:
        run: names this run; the sites keep their own state under it.
        state: what is broadcast.
        moments: of the server's optimiser, by tensor name.
        spec: of the shared transformer, as agreed in round 0.
        modalities: by site that took part in round 0.
        groups: of these sites, by part that they share with another.
        refused: sites that may not take part, because of what they said in round 0.
        records: of the rounds so far.
        notes: on saved state that was damaged, and what was used instead.
    """

    run: str
    state: GlobalState
    moments: Mapping[str, Tensor]
    spec: ModelSpec
    modalities: Mapping[str, str]
    groups: Groups = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    records: tuple[RoundRecord, ...] = ()
    notes: tuple[str, ...] = ()


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
    consensus = GramConsensus(job.anchors.slots)
    for reply in good.values():
        consensus.add(reply.site, reply.gram, reply.slots)
    method = method_of(job)
    zeros = {k: torch.zeros(d_out, r) for k, (d_out, r, _) in spec.shapes.items() if method.shares_b(k)}
    groups, shared = form_groups(good.values())
    state = GlobalState(
        round=0,
        anchors_sha256=job.anchors.sha256,
        backbone=spec.backbone,
        B=zeros,
        m={},
        consensus=consensus.close(),
        extra=method.start(spec),
        shared=shared,
    )
    modalities = {site: reply.modality for site, reply in good.items()}
    return ServerState(
        run=uuid.uuid4().hex,
        state=state,
        moments={},
        spec=spec,
        modalities=modalities,
        groups=groups,
        refused=tuple(sorted(rejected)),
    ), rejected


def _spec_key(spec: ModelSpec) -> str:
    return repr((spec.backbone, spec.width, sorted((name, tuple(shape)) for name, shape in spec.shapes.items())))


class Round:
    """One round at the server: replies are checked and added as they arrive, in any order.

    Memory does not grow with the number of sites (see :mod:`fedgram.core.aggregate`).
    """

    def __init__(self, before: ServerState, job: JobConfig, sites: Iterable[str]):
        self._before, self._job, self._asked = before, job, tuple(sites)
        self._started = time.perf_counter()
        self._method = method_of(job)
        self._sends = self._method.sends(before.spec)
        self._means: dict[str, WeightedMean] = {}  # by modality, or one under ""
        self._changes: dict[str, WeightedMean] = {}  # within a group, by its name and part
        self._consensus = GramConsensus(job.anchors.slots)
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
            groups = self._before.groups.get(reply.site, {})
            contracts.check_update(reply, self._before.state, self._job, self._sends, groups)
            self._add(reply)
        except FedgramError as error:
            self.reject(reply.site, str(error))
            raise UpdateRejected(error.problem, where=reply.site, expected=error.expected) from error
        self._consensus.add(reply.site, reply.gram, reply.slots)
        sent = [
            *reply.delta_B.values(),
            *reply.m.values(),
            *reply.extra.values(),
            *reply.shared.values(),
            reply.gram,
        ]
        self._bytes[reply.site] = sum(t.numel() * t.element_size() for t in sent)
        self._norms[reply.site] = contracts.update_norm(reply.delta_B, reply.extra, reply.shared)
        self._metrics[reply.site] = dict(reply.metrics)
        self._samples[reply.site] = reply.samples
        if reply.restarts:
            self._restarts[reply.site] = reply.restarts

    def _add(self, reply: SiteUpdate) -> None:
        tensors = {f"{_B}{name}": delta for name, delta in reply.delta_B.items()}
        tensors |= {f"{_M}{name}": m for name, m in reply.m.items()}
        terms = self._method.terms(reply, self._before.state)
        tensors |= {f"{_EXTRA}{name}": term for name, term in terms.items()}
        group = ""
        if self._method.by_modality:
            if reply.site not in self._before.modalities:
                raise UpdateRejected("a site that was not there in round 0", where=reply.site)
            group = self._before.modalities[reply.site]
        within = [
            (self._mean(self._changes, f"{kin}/{part}/", changes), changes)
            for part, kin in self._before.groups.get(reply.site, {}).items()
            for changes in [below(f"{part}/", reply.shared)]
        ]
        for mean, changes in within:
            mean.check(reply.site, changes, reply.weight)  # before anything is added: a bad site leaves no trace
        self._mean(self._means, group, tensors).add(reply.site, tensors, reply.weight)
        for mean, changes in within:
            mean.add(reply.site, changes, reply.weight)

    def _mean(self, means: dict[str, WeightedMean], name: str, tensors: Mapping[str, Tensor]) -> WeightedMean:
        """The mean of that name, begun for tensors of these shapes where there is none."""
        if name not in means:
            shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
            means[name] = WeightedMean(shapes, self._job.aggregation.max_share, sites=len(self._asked))
        return means[name]

    def reject(self, site: str, reason: str) -> None:
        """Note that a site's reply does not count."""
        self.rejected.setdefault(site, reason)

    def close(self) -> ServerState:
        """The server's step on Σ p_k ΔB_k / Σ p_k, for W and head within groups; mean m; Ḡ; extras; the record.

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
        shares = {group: mean.shares() for group, mean in sorted(self._means.items())}
        means = {group: mean.close() for group, mean in sorted(self._means.items())}
        totals = {group: sum(mean.weights.values()) for group, mean in sorted(self._means.items())}
        parts = {group: total / sum(totals.values()) for group, total in totals.items()}
        step = ServerStep(
            rules.server_optimizer, rules.server_learning_rate, rules.server_momentum, before.moments
        )
        changes = below(_B, means.get("", {}))
        B = {k: b + step(f"{_B}{k}", changes[k]) for k, b in before.state.B.items()}
        shared = {**before.state.shared}
        for within, mean in sorted(self._changes.items()):
            for name, change in mean.close().items():
                shared[within + name] = shared[within + name] + step(f"{_SHARED}{within}{name}", change)
        extras = {group: below(_EXTRA, mean) for group, mean in means.items()}
        state = replace(
            before.state,
            round=number,
            B=B,
            m={k: v.float() for k, v in below(_M, means.get("", {})).items()},
            consensus=self._consensus.close(),
            extra=self._method.finish(Closing(before=before.state, B=B, means=extras, shares=parts, step=step)),
            shared=shared,
        )
        record = self._record(
            number,
            shares={site: parts[group] * share for group in shares for site, share in shares[group].items()},
            mean_norm=contracts.update_norm(changes, extras.get("", {})),
        )
        moments = {**before.moments, **step.moments}  # a group that nobody answered for keeps its own
        return replace(before, state=state, moments=moments, records=(*before.records, record))

    def _record(self, number: int, shares: Mapping[str, float], mean_norm: float) -> RoundRecord:
        heard = {*self.accepted, *self.rejected}
        return RoundRecord(
            round=number,
            shares=dict(sorted(shares.items())),
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
