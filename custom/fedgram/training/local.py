"""One round at one site (Eklund 2026, eq. 3), and the tasks around it. Nothing here knows FLARE."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import singledispatch

import torch
from torch import Tensor

from fedgram import __version__
from fedgram.core.contrastive import info_nce, pair_recall
from fedgram.core.gram import cosine_gram
from fedgram.core.uncertainty import anchor_proximity, precision
from fedgram.errors import BackboneError
from fedgram.methods.base import TaskLoss
from fedgram.model import lora
from fedgram.model.site_model import EVALUATION_BATCH, masked_mean
from fedgram.records import WIRE_DTYPE, GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate, Tokens
from fedgram.sites.base import Participant
from fedgram.sites.single import Site, derive_generator
from fedgram.sites.state import restore
from fedgram.training.geometry import anchor_alignment, concept_loss, represent_anchors


def introduce(site: Participant) -> SiteIntroduction:
    """Round 0: the site's model and the Gram of its untrained representation (there is no Ḡ yet)."""
    return SiteIntroduction(
        site=site.name,
        version=__version__,
        anchors_sha256=site.anchors.sha256,
        spec=site.spec,
        gram=cosine_gram(site.model.embed(site.anchors.tokens)),
        slots=site.anchors.slots,
        samples=len(site.data["train"]),
        modality=site.modality.name,
    )


def local_round(site: Participant, state: GlobalState) -> SiteUpdate:
    """Train for the job's local steps from the global B and report what changed.

    min over W_m, B, m and the head of L_task + λ (1 − CKA(G, Ḡ)), eq. (3).
    """
    settings, rules = site.job.training, site.job.aggregation
    adopt(site, state)
    started = time.perf_counter()
    metrics = train(site, state.round + 1, settings.local_steps, state)
    seconds = time.perf_counter() - started
    trained = lora.get_B(site.model.transformer)
    anchors = site.model.embed(site.anchors.tokens)
    metrics |= evaluate(site, "validation") | {"seconds": seconds}
    return SiteUpdate(
        site=site.name,
        round=state.round + 1,
        anchors_sha256=site.anchors.sha256,
        delta_B={k: (trained[k] - b).to(WIRE_DTYPE).contiguous() for k, b in state.B.items()},
        m=lora.get_m(site.model.transformer) if site.job.adapter.shares_magnitude else {},
        gram=cosine_gram(anchors),
        slots=site.anchors.slots,
        weight=site_weight(site, anchors, state.round + 1) if rules.weights != "uniform" else 1.0,
        samples=len(site.data["train"]),
        metrics=_named(site, metrics),
        extra=site.method.extra(site, state),
    )


def train_alone(site: Participant) -> None:
    """From the beginning, with the same steps and batches as a whole run but neither Ḡ nor the others' B."""
    settings = site.job.training
    reset(site)
    for round in range(1, settings.rounds + 1):
        train(site, round, settings.local_steps)


def reset(site: Participant) -> None:
    """Make a site as it was when it was opened."""
    lora.drop_residual(site.model.transformer)
    restore(site.model, site.optimizer, site.initial)


def adopt(site: Participant, state: GlobalState) -> None:
    """Take over the global B, where magnitudes are averaged the global m, and what else the method shares.

    Raises:
        BackboneError: the federation trains another base model than this site has.
    """
    if state.backbone != site.spec.backbone:
        raise BackboneError(
            f"weights {site.spec.backbone[:12]}…",
            where=f"{site.name}: backbone {site.job.backbone.name!r}",
            expected=f"weights {state.backbone[:12]}… as the rest of the federation",
            remedy="install the same checkpoint as the other sites",
        )
    lora.set_B(site.model.transformer, {**lora.get_B(site.model.transformer), **state.B})
    if state.m:
        lora.set_m(site.model.transformer, state.m)
    site.method.adopt(site, state)


@singledispatch
def train(site: Site, round: int, steps: int, state: GlobalState | None = None) -> dict[str, float]:
    """Optimise for some steps; returns the mean of each loss term, and CKA, over the steps that compute it.

    This is how a site of one modality trains; other kinds of sites register their own way.

    Args:
        round: counted from 1.
        state: what the others know: Ḡ, and what the method shares; None to train alone.
    """
    settings = site.job.training
    every, aligned = settings.geometry_every, 0
    geometry = state is not None and settings.geometry_weight > 0
    sums: dict[str, float] = defaultdict(float)
    data, pairs = site.data["train"], _pair_batches(site, round, steps)
    for step, rows in enumerate(batches(site, round, steps), start=(round - 1) * steps):
        tokens = data.tokens[rows].to(site.device)
        hidden = site.model.hidden(tokens)
        output = site.model.head(hidden, tokens.mask)
        loss = task_loss = site.task.loss(output, data.targets[rows].to(site.device))
        z = masked_mean(hidden, tokens.mask)
        if state is not None:
            penalty = site.method.penalty(site, state, TaskLoss(task_loss, z, rows))
            loss = loss if penalty is None else loss + penalty
        now = step % every == 0
        anchors = represent_anchors(site) if now and (geometry or settings.concept_weight) else None
        if anchors is not None and geometry and state is not None:
            alignment = anchor_alignment(site, anchors, state.consensus)
            loss = loss + settings.geometry_weight * every * (1.0 - alignment)
            sums["cka"] += alignment.item()
            aligned += 1
        if anchors is not None and settings.concept_weight:
            near = concept_loss(site, z, rows, anchors, None if state is None else state.consensus)
            loss = loss + settings.concept_weight * every * near
        if site.bridge is not None:
            contrast = bridge_loss(site, *next(pairs), site.bridge.settings.temperature)
            loss = loss + site.bridge.settings.weight * contrast
            sums["bridge_loss"] += contrast.item() / steps
        site.optimizer.zero_grad()
        loss.backward()
        site.optimizer.step()
        sums["loss"] += loss.item() / steps
        sums["task_loss"] += task_loss.item() / steps
    if aligned:
        sums["cka"] /= aligned
    return dict(sums)


def bridge_loss(site: Site, first: Tokens, second: Tokens, temperature: float) -> Tensor:
    """Symmetric InfoNCE over a batch of pairs; it trains B, m and both adapters, as the task loss does."""
    return info_nce(site.model.represent(first), site.model.represent(second, bridge=True), temperature)


def site_weight(site: Participant, anchors: Tensor, round: int) -> float:
    """p_k before normalisation, by the job's rule, from at most ``weight_samples`` training samples."""
    rules, data = site.job.aggregation, site.data["train"]
    if rules.weights == "samples":
        return float(len(data))
    order = torch.randperm(len(data), generator=derive_generator(site.job.seed, site.name, "weight", round))
    chosen = order[: rules.weight_samples].sort().values
    u = anchor_proximity(site.model.embed(data.take(chosen)), anchors, rules.lap)
    return precision(u, u_min=rules.u_min)


@singledispatch
@torch.no_grad()
def evaluate(site: Site, split: str) -> dict[str, float]:
    """The task's metrics on one split, and how well its pairs find each other; none where the split is empty."""
    data = site.data[split]
    if len(data) == 0:
        return {}
    return site.task.metrics(outputs(site, data.tokens), data.targets) | _evaluate_pairs(site, split)


def _evaluate_pairs(site: Site, split: str) -> dict[str, float]:
    """R@1 between the two modalities of a bridge site; a single pair finds itself, which says nothing."""
    if site.bridge is None or len(site.bridge.pairs[split]) < 2:
        return {}
    pairs = site.bridge.pairs[split]
    first = site.model.embed(site.data[split].tokens[pairs.rows])
    return {"pair_recall": pair_recall(first, site.model.embed(pairs.tokens, bridge=True))}


@torch.no_grad()
def outputs(site: Site, tokens: Tokens) -> Tensor:
    """What the head says of many samples, in batches, on the CPU."""
    rows = torch.arange(len(tokens)).split(EVALUATION_BATCH)
    return torch.cat([site.model(tokens[part].to(site.device)).cpu() for part in rows])


def evaluation(site: Participant, split: str = "test") -> SiteEvaluation:
    """Metrics on a split and the geometry of public anchors, of the model as it is now."""
    tokens = [site.anchors.tokens] + ([site.heldout.tokens] if site.heldout else [])
    return SiteEvaluation(
        site=site.name,
        metrics=_named(site, evaluate(site, split)),
        gram=cosine_gram(torch.cat([site.model.embed(part) for part in tokens])),
        slots=site.anchors.slots,
        heldout_slots=site.heldout.slots if site.heldout else (),
    )


def _named(site: Participant, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that the job names: no other number leaves the site."""
    return {name: float(metrics[name]) for name in site.job.metrics if name in metrics}


def batches(site: Site, round: int, steps: int) -> Iterator[Tensor]:
    """Rows of shuffled batches, epoch after epoch; the same for the same seed, site and round in any process."""
    data, size = site.data["train"], site.job.training.batch_size
    generator = derive_generator(site.job.seed, site.name, "batches", round)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        while len(order) < min(size, len(data)):
            order = torch.cat([order, torch.randperm(len(data), generator=generator)])
        rows, order = order[:size], order[size:]
        yield rows


def _pair_batches(site: Site, round: int, steps: int) -> Iterator[tuple[Tokens, Tokens]]:
    """Shuffled batches of pairs, the same in any process as those of :func:`batches`; none without a bridge.

    A batch holds at least two pairs, and none twice: a pair is told from the others.
    """
    if site.bridge is None:
        return
    tokens, pairs = site.data["train"].tokens, site.bridge.pairs["train"]
    size = min(max(site.job.training.batch_size, 2), len(pairs))
    generator = derive_generator(site.job.seed, site.name, "pairs", round)
    order = torch.empty(0, dtype=torch.long)
    for _ in range(steps):
        if len(order) < size:
            order = torch.randperm(len(pairs), generator=generator)
        rows, order = order[:size], order[size:]
        yield tokens[pairs.rows[rows]].to(site.device), pairs.tokens[rows].to(site.device)
