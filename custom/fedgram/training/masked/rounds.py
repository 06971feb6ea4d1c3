"""The server's rounds of a masked job: the first Ḡ, then the model, each of sums over the sites alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.aggregate import consensus_of
from fedgram.core.fixed import from_fixed
from fedgram.errors import RoundFailed, UpdateRejected
from fedgram.records import RoundRecord
from fedgram.training.advance import Means, advance
from fedgram.training.masked.coverage import pair_counts, summed_pairs
from fedgram.training.masked.gathering import Ask, MaskedSum
from fedgram.training.masked.identity import Verifier
from fedgram.training.masked.messages import digest
from fedgram.training.masked.shapes import GRAM, WEIGHT, shapes_of
from fedgram.training.masked.total import check_consensus, check_means
from fedgram.training.server import ServerState


def first_consensus(
    state: ServerState, job: JobConfig, ask: Ask, authority: Verifier | None = None
) -> ServerState:
    """The state after round 0 with the first Ḡ, the mean over the sites that could be summed.

    Args:
        authority: by which keys are looked at; none where sites are one machine.

    Raises:
        RoundFailed: too few sites take part.
        UpdateRejected: their sum is none of Gram matrices.
    """
    current = MaskedSum(state.run, 0, job, shapes_of(job), authority=authority)
    total = current.gather(state.modalities, ask)
    return replace(state, state=replace(state.state, consensus=_consensus(current, total, job, "round 0")))


def masked_round(
    before: ServerState, job: JobConfig, sites: Iterable[str], ask: Ask, authority: Verifier | None = None
) -> ServerState:
    """One round of which the server learns Σ p_k ΔB_k, Σ p_k (m_k − m), Σ G_k and Σ p_k.

    A round that more sites leave than it can bear, or whose sum honest sites cannot have, leaves the model as it
    was, with a note, and the next goes on.

    Raises:
        RoundFailed: too few sites were there when it began.
    """
    started, asked, number = time.perf_counter(), tuple(sites), before.state.round + 1
    shapes, state = shapes_of(job, before.state), digest(before.state)
    current = MaskedSum(before.run, number, job, shapes, state=state, authority=authority)
    try:
        total = current.gather(asked, ask)
        means = _means(current, total, before, job, f"round {number}")
    except (RoundFailed, UpdateRejected) as error:
        if isinstance(error, RoundFailed) and not current.fell_apart:  # it did not begin, or the job was aborted
            raise
        record = _record(current, (), asked, number, 0.0, time.perf_counter() - started)
        note = f"{error.where}: {error.problem}; the model stays as it was"
        return replace(
            before,
            state=replace(before.state, round=number),
            records=(*before.records, record),
            notes=(*before.notes, note),
        )
    state, moments, norm = advance(before.state, before.moments, job, means)
    record = _record(current, current.survivors, asked, number, norm, time.perf_counter() - started)
    return replace(before, state=state, moments=moments, records=(*before.records, record))


def _means(
    current: MaskedSum, total: Mapping[str, Tensor], before: ServerState, job: JobConfig, where: str
) -> Means:
    """The means that follow from the sums, of which nothing counts unless all of it can be true."""
    weight = from_fixed(total[WEIGHT])
    tensors = {label: from_fixed(v) / weight for label, v in total.items() if label not in (WEIGHT, GRAM)}
    sites = len(current.survivors)
    check_means(where, weight.item(), sites, tensors, before.state, before.magnitudes, job)
    consensus = _consensus(current, total, job, where)
    return Means(tensors={"": tensors}, parts={"": 1.0}, consensus=consensus)


def _consensus(current: MaskedSum, total: Mapping[str, Tensor], job: JobConfig, where: str) -> Tensor:
    """The consensus Ḡ, (B, B), NaN where fewer than three sites were summed."""
    slots, size = current.slots, job.anchors.slots
    count = pair_counts(slots, current.survivors, size) * summed_pairs(slots, current.sharers, size)
    consensus = consensus_of(from_fixed(total[GRAM]), count)
    check_consensus(where, consensus)
    return consensus


def _record(
    current: MaskedSum, counted: tuple[str, ...], asked: tuple[str, ...], number: int, norm: float, seconds: float
) -> RoundRecord:
    """The account of a masked round: who was summed, and nothing of one site but the bytes it sent."""
    return RoundRecord(
        round=number,
        shares={},
        metrics={site: {} for site in counted},
        payload_bytes=dict(sorted(current.bytes.items())),
        rejected=dict(sorted(current.rejected.items())),
        missing=tuple(sorted(set(asked) - {*current.survivors, *current.rejected})),
        mean_update_norm=norm,
        update_norms={},
        seconds=seconds,
        restarts=dict(sorted(current.restarts.items())),
        samples={},
    )
