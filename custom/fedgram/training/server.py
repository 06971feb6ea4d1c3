"""The server's side of a round, with no FLARE and no transformer in it.

The server never loads the base model: what the layers look like is what the sites agree on in round 0.
"""

from __future__ import annotations

import time
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.aggregate import GramConsensus, capped_weights
from fedgram.core.bounds import extended, gram_distance
from fedgram.core.robust import entry_median
from fedgram.errors import FedgramError, RoundFailed, UpdateRejected
from fedgram.methods import method_of
from fedgram.records import GlobalState, ModelSpec, RoundRecord, SiteIntroduction, SiteUpdate
from fedgram.training import contracts
from fedgram.training.advance import Means, advance
from fedgram.training.averages import GRAM, WEIGHT, Averages
from fedgram.training.groups import Groups, form_groups


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
        privacy: of these sites, what those that promise differential privacy promise: ``epsilon``, ``delta``.
        refused: sites that may not take part, because of what they said in round 0.
        magnitudes: m of the base, where it is averaged; a reply whose m is far from it is refused.
        past: what was usual in the last rounds, by part of a reply; see :mod:`fedgram.core.bounds`.
        records: of the rounds so far.
        notes: on saved state that was damaged, and what was used instead.
    """

    run: str
    state: GlobalState
    moments: Mapping[str, Tensor]
    spec: ModelSpec
    modalities: Mapping[str, str]
    groups: Groups = field(default_factory=dict)
    privacy: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    refused: tuple[str, ...] = ()
    magnitudes: Mapping[str, Tensor] = field(default_factory=dict)
    past: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
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
    for reply in list(good.values()):
        try:
            contracts.check_base_magnitudes(reply, reply.spec, job)
        except UpdateRejected as error:
            rejected[reply.site] = str(error)
            del good[reply.site]
    if len(good) < job.aggregation.min_sites:
        raise RoundFailed(
            f"{len(good)} sites agree on model and anchors",
            where="round 0",
            expected=f"at least {job.aggregation.min_sites}",
            remedy="; ".join(rejected.values()) or "see why the sites did not answer",
        )
    spec = next(iter(good.values())).spec
    magnitudes = _usual_magnitudes([reply.m for reply in good.values()])
    consensus = GramConsensus(job.anchors.slots, median=job.aggregation.clip > 0)  # all are in memory here
    for reply in good.values() if not job.aggregation.masked else ():
        consensus.add(reply.site, reply.gram, reply.slots)
    method = method_of(job)
    zeros = {k: torch.zeros(d_out, r) for k, (d_out, r, _) in spec.shapes.items() if method.shares_b(k)}
    groups, shared = form_groups(good.values())
    state = GlobalState(
        round=0,
        anchors_sha256=job.anchors.sha256,
        backbone=spec.backbone,
        B=zeros,
        m=magnitudes,
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
        privacy={site: dict(reply.privacy) for site, reply in good.items() if reply.privacy},
        refused=tuple(sorted(rejected)),
        magnitudes=magnitudes,
        past={} if job.aggregation.masked else _first_sizes(good.values(), state.consensus, job),
    ), rejected


def _usual_magnitudes(found: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """The magnitudes m of the base as most sites say them: the median of each entry."""
    return {name: entry_median(torch.stack([m[name] for m in found])) for name in found[0]}


def _first_sizes(
    good: Iterable[SiteIntroduction], consensus: Tensor, job: JobConfig
) -> dict[str, tuple[float, ...]]:
    """The sizes that are usual before the first round: how far a G is from Ḡ, how many samples a site has."""
    sizes = {GRAM: [gram_distance(reply.gram, consensus, reply.slots) for reply in good]}
    if job.aggregation.weights == "samples":
        sizes[WEIGHT] = [float(reply.samples) for reply in good]
    return extended({}, sizes)


def _spec_key(spec: ModelSpec) -> str:
    return repr((spec.backbone, spec.width, sorted((name, tuple(shape)) for name, shape in spec.shapes.items())))


def same_model(one: ModelSpec, other: ModelSpec) -> bool:
    """Whether two sites have the same shared transformer: weights, width and adapted layers."""
    return _spec_key(one) == _spec_key(other)


def require_enough(good: int, job: JobConfig, where: str, reasons: Iterable[str] = ()) -> None:
    """Require so many good replies as the job needs, in a round and in every stage after the last.

    Args:
        reasons: why others do not count.

    Raises:
        RoundFailed: there are fewer.
    """
    if good < job.aggregation.min_sites:
        remedy = "; ".join(reasons) or "see why the sites did not answer"
        expected = f"at least {job.aggregation.min_sites}"
        raise RoundFailed(f"{good} good replies", where=where, expected=expected, remedy=remedy)


class Round:
    """One round at the server: replies are checked and added as they arrive, in any order.

    Memory does not grow with the number of sites (see :mod:`fedgram.core.aggregate`).
    """

    def __init__(self, before: ServerState, job: JobConfig, sites: Iterable[str]):
        self._before, self._job, self._asked = before, job, tuple(sites)
        self._started = time.perf_counter()
        self._method = method_of(job)
        self._sends = self._method.sends(before.spec)
        self._averages = Averages(
            before.state,
            job,
            self._method,
            modalities=before.modalities,
            groups=before.groups,
            past=before.past,
            sites=len(self._asked),
        )
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
            contracts.check_magnitudes(reply.site, reply.m, self._before.magnitudes)
            self._averages.add(reply)
        except FedgramError as error:
            self.reject(reply.site, str(error))
            raise UpdateRejected(error.problem, where=reply.site, expected=error.expected) from error
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

    def reject(self, site: str, reason: str) -> None:
        """Note that a site's reply does not count."""
        self.rejected.setdefault(site, reason)

    def close(self) -> ServerState:
        """The server's step on Σ p_k ΔB_k / Σ p_k, for W and head within groups; mean m; Ḡ; extras; the record.

        Raises:
            RoundFailed: fewer than ``min_sites`` replies count.
        """
        before, number = self._before, self._before.state.round + 1
        require_enough(len(self.accepted), self._job, f"round {number}", self.rejected.values())
        averages = {group: mean for group, mean in sorted(self._averages.means.items()) if mean.weights}
        shares = {group: mean.shares() for group, mean in averages.items()}
        everybody = {site: weight for mean in averages.values() for site, weight in mean.weights.items()}
        capped = capped_weights(everybody, self._job.aggregation.max_share)
        totals = {group: sum(capped[site] for site in sorted(mean.weights)) for group, mean in averages.items()}
        tensors, within_groups, consensus = self._averages.close()
        parts = {group: total / sum(totals.values()) for group, total in totals.items()}
        means = Means(tensors=tensors, parts=parts, consensus=consensus, within_groups=within_groups)
        state, moments, mean_norm = advance(before.state, before.moments, self._job, means)
        record = self._record(
            number,
            shares={site: parts[group] * share for group in shares for site, share in shares[group].items()},
            mean_norm=mean_norm,
        )
        records, past = (*before.records, record), self._averages.past()
        return replace(before, state=state, moments=moments, records=records, past=past)

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
            shortened=dict(sorted(self._averages.shortened.items())),
        )
