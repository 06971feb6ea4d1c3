"""The one training loop (Eklund 2026, eq. 3), for sites of every kind."""

from __future__ import annotations

from collections import defaultdict

from fedgram.records import GlobalState
from fedgram.sites.base import Site
from fedgram.training.geometry import anchor_alignment, concept_loss, represent_anchors


def train(site: Site, round: int, steps: int, state: GlobalState | None = None) -> dict[str, float]:
    """Optimise for some steps: task + method + λ (1 − CKA(G, Ḡ)) + concepts + pairs.

    Returns the mean of each loss term, and of CKA, over the steps that compute it.

    Args:
        round: counted from 1.
        state: the global state: Ḡ, and what the method shares; None to train alone.
    """
    settings = site.job.training
    every, consensus = settings.geometry_every, None if state is None else state.consensus
    sums: dict[str, float] = defaultdict(float)
    aligned = 0
    for step, batch in enumerate(site.batches(round, steps), start=(round - 1) * steps):
        task = site.task_loss(batch)
        loss = task.loss
        if state is not None:
            penalty = site.method.penalty(site, state, task)
            loss = loss if penalty is None else loss + penalty
        geometry = consensus is not None and settings.geometry_weight > 0
        concepts = task.z is not None and settings.concept_weight > 0
        if step % every == 0 and (geometry or concepts):
            anchors = represent_anchors(site)
            if consensus is not None and geometry:
                alignment = anchor_alignment(site, anchors, consensus)
                loss = loss + settings.geometry_weight * every * (1.0 - alignment)
                sums["cka"] += alignment.item()
                aligned += 1
            if concepts:
                near = concept_loss(site, *task.samples(), anchors, consensus)
                loss = loss + settings.concept_weight * every * near
        if site.config.bridge is not None and (contrast := site.pair_loss(batch)) is not None:
            loss = loss + site.config.bridge.weight * contrast
            sums["bridge_loss"] += contrast.item() / steps
        site.optimizer.zero_grad()
        loss.backward()
        site.optimizer.step()
        sums["loss"] += loss.item() / steps
        sums["task_loss"] += task.loss.item() / steps
    if aligned:
        sums["cka"] /= aligned
    return dict(sums)
