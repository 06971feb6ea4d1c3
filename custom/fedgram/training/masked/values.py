"""The values that a site adds to a masked sum, checked by the site itself: under masks nobody else can."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.core.aggregate import gram_block
from fedgram.core.fixed import LARGEST_SUM, to_fixed
from fedgram.core.gram import cosine_gram
from fedgram.errors import MaskRefused
from fedgram.records import GlobalState, SiteUpdate, below
from fedgram.sites.base import Site
from fedgram.training import contracts
from fedgram.training.averages import B, M
from fedgram.training.masked.coverage import summed_pairs
from fedgram.training.masked.member import Member
from fedgram.training.masked.messages import NO_STATE, SumCall, digest
from fedgram.training.masked.shapes import GRAM, WEIGHT
from fedgram.training.rounds import reset


def masked_values(
    site: Site,
    member: Member,
    call: SumCall,
    state: GlobalState | None,
    train: Callable[[str, GlobalState], SiteUpdate],
) -> dict[str, Tensor]:
    """The values of a site for one sum: what the server asks is checked before a step is trained.

    Args:
        state: of the server; None before the first round.
        train: one local round of a run from a state.

    Raises:
        MaskRefused: the sum is none that this site takes part in, or is not of that state.
    """
    peers, total = member.peers(call), site.job.anchors.slots
    sharers = [name for name in call.sharers if name in peers]
    pairs = summed_pairs({name: card.slots for name, card in peers.items()}, sharers, total)
    follows = (0, NO_STATE) if state is None else (state.round + 1, digest(state))
    if (call.round, call.state) != follows:
        raise MaskRefused("a sum of another state than comes with it", where=site.name)
    if state is None:
        reset(site)
        return {GRAM: gram_value(cosine_gram(site.model.embed(site.anchors.tokens)), site.anchors.slots, pairs)}
    update = train(call.run, state)
    return update_values(update, state, site.job, below("m/", site.initial), pairs, len(sharers))


def gram_value(gram: Tensor, slots: tuple[int, ...], pairs: Tensor) -> Tensor:
    """The part of G that is summed, (B, B) int64; 0 where a pair is not in the sum.

    Args:
        gram: G, (b, b).
        slots: the b slots.
        pairs: that are in the sum, (B, B) bool.
    """
    block = gram_block(gram, slots, range(len(pairs)), len(pairs)).nan_to_num(nan=0.0)
    return to_fixed(torch.where(pairs, block, 0.0))


def update_values(
    update: SiteUpdate,
    before: GlobalState,
    job: JobConfig,
    base: Mapping[str, Tensor],
    pairs: Tensor,
    sites: int,
) -> dict[str, Tensor]:
    """The values p, p ΔB, p (m − m_before) and G of an update, int64 by label, as the plain mean rounds them.

    Args:
        before: what the site started from.
        base: m of the base, by layer.
        pairs: of anchors that are in the sum, (B, B) bool.
        sites: that add to the sum; each has an equal part of its room.

    Raises:
        UpdateRejected: the update breaks the contract, as the server would say if it saw it.
        MaskRefused: a value is too large to be added.
    """
    contracts.check_update(update, before, job, {}, {})
    contracts.check_magnitudes(update.site, update.m, base)
    away = {name: m.double() - before.m[name].double() for name, m in update.m.items()}
    terms = {
        WEIGHT: torch.tensor(update.weight, dtype=torch.float64),
        **{f"{B}{name}": delta.double() * update.weight for name, delta in update.delta_B.items()},
        **{f"{M}{name}": change * update.weight for name, change in away.items()},
    }
    room = LARGEST_SUM / sites
    for label, term in terms.items():
        largest = term.abs().max().item() if term.numel() else 0.0
        if not largest <= room:  # nor if it is no number
            raise MaskRefused(
                f"{label}: weighted size {largest:.3g}", where=update.site, expected=f"at most {room:.3g}"
            )
    fixed = {label: to_fixed(term) for label, term in terms.items()}
    return {**fixed, GRAM: gram_value(update.gram, update.slots, pairs)}
