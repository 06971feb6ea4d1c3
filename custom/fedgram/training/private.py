"""A round at a site that promises differential privacy (DP-SGD): what its samples move is clipped and noised.

What only public data move is neither: the geometry of the anchors, anchors that count as labelled samples, and
what a method adds. AdamW and all that follows see no sample but through the noised gradient.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from hashlib import sha256

import torch
from torch import Tensor

from fedgram import __version__
from fedgram.core.privacy import clipped_sum, noised_mean, poisson_sample
from fedgram.errors import ConfigError
from fedgram.files import checksum
from fedgram.methods.base import TaskLoss
from fedgram.model.per_group import group_gradients, trained
from fedgram.model.site_model import masked_mean
from fedgram.model.tasks import to_facts
from fedgram.records import GlobalState
from fedgram.sites.base import Site, shuffled
from fedgram.sites.draws import Draws, private_draws
from fedgram.sites.guarantee import Guarantee
from fedgram.sites.secret import private_generator
from fedgram.sites.single import Batch, SingleSite
from fedgram.sites.state import snapshot
from fedgram.training.codec import pack
from fedgram.training.geometry import (
    anchor_alignment,
    concept_answers,
    concept_loss,
    mean_over_known,
    represent_anchors,
)

_TOGETHER = 64  # samples in one pass
_EACH = 16  # samples of a group that are looked at in one step, drawn anew


def train_privately(site: Site, state: GlobalState, charge: Callable[[str], None] | None) -> dict[str, float]:
    """Train a round: in every step the noised mean gradient of some groups, and the gradient of public terms.

    Both are weighted by the number of groups and of labelled anchors. Where no group takes part a step is noise.

    Args:
        charge: books the round, by a digest of all that it starts from, before anything is computed.

    Returns:
        The mean of CKA over the steps that compute it; nothing else is public.

    Raises:
        ConfigError: no account is kept, or the site is not of one modality.
    """
    guarantee = site.guarantee
    if charge is None or guarantee is None or not isinstance(site, SingleSite):
        raise ConfigError(
            "no account of the privacy budget",
            where=f"{site.name}: privacy",
            expected="a session of a site of one modality, which keeps one",
        )
    start = digest_of(site, state)
    charge(start)
    draws = private_draws(site.name, site.config, bytes.fromhex(start))
    settings, consensus = site.job.training, state.consensus
    first, rows, public = state.round * settings.local_steps, rows_by_group(site), _public_rows(site, state.round)
    share = 1.0 / (1.0 + _labelled(site) / guarantee.groups)
    found: list[float] = []
    for step in range(first, first + settings.local_steps):
        anchors = None
        if step % settings.geometry_every == 0 and settings.geometry_weight + settings.concept_weight > 0:
            anchors = represent_anchors(site)
        fixed = None if anchors is None or not settings.concept_weight else anchors.detach()
        chosen = poisson_sample(draws.uniform(guarantee.groups), guarantee.rate).tolist()
        total = clipped_gradient(site, [_some(rows[k], draws) for k in chosen], fixed, consensus, guarantee.clip)
        site.optimizer.zero_grad()
        loss = _public_loss(site, state, next(public), anchors, 1.0 - share, found)
        if loss.requires_grad:
            loss.backward()
        _add_noised(site, total, guarantee, share, draws)
        site.optimizer.step()
    return {"cka": sum(found) / len(found)} if found else {}


def digest_of(site: SingleSite, state: GlobalState) -> str:
    """The sha256 of all that a private round starts from: no two computations share it, and none its noise."""
    tensors, facts = pack(state)
    promised = asdict(site.guarantee) if site.guarantee else {}
    own = [site.name, site.job.fingerprint(), site.data_digest, promised]
    own += [to_facts(site.task), site.config.precision, __version__]
    parts = [checksum(tensors, {}), checksum(snapshot(site.model, site.optimizer), {}), facts, own]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def rows_by_group(site: SingleSite) -> list[Tensor]:
    """The rows of every training group, in the order in which the groups come."""
    members: dict[str, list[int]] = {}
    for row, group in enumerate(site.data["train"].groups):
        members.setdefault(group, []).append(row)
    return [torch.tensor(rows) for rows in members.values()]


def clipped_gradient(
    site: SingleSite, groups: Sequence[Tensor], anchors: Tensor | None, consensus: Tensor, clip: float
) -> dict[str, Tensor]:
    """The sum over groups of the clipped gradients of their losses, by parameter; 0 of no groups.

    Args:
        groups: rows in ``data["train"]`` of each.
        anchors: their representations, where the concept loss takes part; constants here.
        clip: C.
    """
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in trained(site.model).items()}
    for part in _passes(groups):
        sizes = [len(rows) for rows in part]
        with group_gradients(site.model, sizes) as gradients:
            group_losses(site, part, anchors, consensus).sum().backward()
        for name, gradient in clipped_sum(gradients, clip).items():
            total[name] += gradient
    return total


def group_losses(site: SingleSite, groups: Sequence[Tensor], anchors: Tensor | None, consensus: Tensor) -> Tensor:
    """The loss of each group on its own samples, task and concepts, (K,); no group has a part in another's."""
    settings, rows = site.job.training, torch.cat([*groups])
    data, sizes = site.data["train"], [len(group) for group in groups]
    tokens = data.tokens[rows].to(site.device)
    hidden = site.model.hidden(tokens)
    outputs = site.model.head(hidden, tokens.mask).split(sizes)
    targets = data.targets[rows].to(site.device).split(sizes)
    losses = torch.stack([site.task.loss(*pair) for pair in zip(outputs, targets, strict=True)])
    if anchors is None:
        return losses
    logits, concepts = concept_answers(site, masked_mean(hidden, tokens.mask), rows, anchors, consensus)
    named = zip(logits.split(sizes), concepts.split(sizes), strict=True)
    near = torch.stack([mean_over_known(*pair) for pair in named])
    return losses + settings.concept_weight * settings.geometry_every * near


def _passes(groups: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The groups in portions that memory has room for."""
    part: list[Tensor] = []
    for rows in groups:
        if part and sum(map(len, part)) + len(rows) > _TOGETHER:
            yield part
            part = []
        part.append(rows)
    if part:
        yield part


def _some(rows: Tensor, draws: Draws) -> Tensor:
    """At most 16 samples of a group: whichever they are, they are one group's."""
    return rows if len(rows) <= _EACH else rows[draws.uniform(len(rows)).argsort()[:_EACH].sort().values]


def _labelled(site: SingleSite) -> int:
    """The number of anchors that train as labelled samples."""
    return len(site.data["fit"]) - len(site.data["train"])


def _public_rows(site: SingleSite, round: int) -> Iterator[Tensor]:
    """Rows of labelled anchors in ``data["fit"]``, shuffled; empty ones where there are none."""
    generator = private_generator(site.name, site.config, site.job, "public", round)
    own = len(site.data["train"])
    return (own + rows for rows in shuffled(_labelled(site), site.job.training.batch_size, generator))


def _public_loss(
    site: SingleSite, state: GlobalState, rows: Tensor, anchors: Tensor | None, share: float, found: list[float]
) -> Tensor:
    """The terms that no private sample has a part in: geometry, labelled anchors, the method's own.

    Args:
        rows: of labelled anchors.
        share: their weight.
        found: takes the CKA.
    """
    settings, loss = site.job.training, torch.zeros((), device=site.device)
    if len(rows):
        task = site.task_loss(Batch(rows))
        loss = loss + share * task.loss
        if anchors is not None and settings.concept_weight:
            near = concept_loss(site, *task.samples(), anchors, state.consensus)
            loss = loss + share * settings.concept_weight * settings.geometry_every * near
    if anchors is not None and settings.geometry_weight:
        alignment = anchor_alignment(site, anchors, state.consensus)
        loss = loss + settings.geometry_weight * settings.geometry_every * (1.0 - alignment)
        found.append(alignment.item())
    penalty = site.method.penalty(site, state, TaskLoss(torch.zeros((), device=site.device)))
    return loss if penalty is None else loss + penalty


def _add_noised(
    site: SingleSite, total: dict[str, Tensor], guarantee: Guarantee, share: float, draws: Draws
) -> None:
    """Add the private mean gradient to that of the public terms."""
    for name, parameter in trained(site.model).items():
        normal = draws.normal(parameter.numel())
        mean = noised_mean(total[name], normal, guarantee.multiplier, guarantee.clip, guarantee.expected)
        private = (share * mean).to(parameter)
        parameter.grad = private if parameter.grad is None else parameter.grad + private
