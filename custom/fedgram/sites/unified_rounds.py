"""What a unified site does in a round and at the end, where that is not what every site does.

It registers itself with :mod:`fedgram.training.local`: importing this module is what makes unified sites train.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from statistics import fmean

import torch
from torch import Tensor

from fedgram.methods.base import TaskLoss
from fedgram.records import GlobalState
from fedgram.scoring.geneval.rules import score
from fedgram.scoring.vqa_score import soft_accuracy
from fedgram.sites.single import derive_generator
from fedgram.sites.unified import UnifiedSite
from fedgram.sites.unified_data import UnifiedData
from fedgram.training import local
from fedgram.training.geometry import anchor_alignment, represent_anchors

_BATCH = 32  # in evaluation
_VALIDATED = 64  # questions and captions that are looked at after every round, at most


@local.train.register
def train(site: UnifiedSite, round: int, steps: int, state: GlobalState | None = None) -> dict[str, float]:
    """Optimise for some steps of answering a batch of questions and making a batch of pictures at once.

    A site with only questions, or only captions, learns that. Returns the mean of each loss term over the steps.

    Args:
        round: counted from 1.
        state: what the others know: Ḡ, and what the method shares; None to train alone.
    """
    settings, data = site.job.training, site.data["train"]
    draws = derive_generator(site.job.seed, site.name, "draws", round)
    sums: dict[str, float] = defaultdict(float)
    asked = _batches(site, len(data.items.questions), "questions", round)
    told = _batches(site, len(data.items.captions), "captions", round)
    geometry = state is not None and settings.geometry_weight > 0
    every, aligned = settings.geometry_every, 0
    for step in range((round - 1) * steps, round * steps):
        terms = losses(site, data, next(asked), next(told), draws)
        loss = task = _mixed(site, terms)
        if state is not None:
            penalty = site.method.penalty(site, state, TaskLoss(task))
            loss = loss if penalty is None else loss + penalty
        if geometry and state is not None and step % every == 0:
            alignment = anchor_alignment(site, represent_anchors(site), state.consensus)
            loss = loss + settings.geometry_weight * every * (1.0 - alignment)
            sums["cka"] += alignment.item()
            aligned += 1
        site.optimizer.zero_grad()
        loss.backward()
        site.optimizer.step()
        sums["loss"] += loss.item() / steps
        sums["task_loss"] += task.item() / steps
    if aligned:
        sums["cka"] /= aligned
    return dict(sums)


@local.evaluate.register
@torch.no_grad()
def evaluate(site: UnifiedSite, split: str) -> dict[str, float]:
    """Losses and soft accuracy on a split; on ``test`` also GenEval, where the site has prompts.

    What is looked at after every round is at most 64 questions and 64 captions.
    """
    data = site.data[split]
    limit = None if split == "test" else _VALIDATED
    draws = derive_generator(site.job.seed, site.name, "evaluation")
    questions, captions = len(data.items.questions), len(data.items.captions)
    asked, told = torch.arange(questions)[:limit], torch.arange(captions)[:limit]
    sums: dict[str, float] = defaultdict(float)
    for part in asked.split(_BATCH) if questions else ():
        sums["understanding_loss"] += losses(site, data, part, told[:0], draws)["understanding_loss"].item() * len(
            part
        )
        sums["vqa_accuracy"] += len(part) * _soft_accuracy(site, data, part)
    for part in told.split(_BATCH) if captions else ():
        sums["generation_loss"] += losses(site, data, asked[:0], part, draws)["generation_loss"].item() * len(part)
    found = {k: v / len(told if k == "generation_loss" else asked) for k, v in sums.items()}
    if split == "test" and site.prompts:
        found |= _geneval(site)
    return found


def losses(
    site: UnifiedSite, data: UnifiedData, asked: Tensor, told: Tensor, draws: torch.Generator
) -> dict[str, Tensor]:
    """Mean loss of each task over a batch of it, where there is a batch.

    Args:
        asked, told: rows of questions and of captions.
        draws: of dropped prompts, noise and times.
    """
    found, model = {}, site.model.unified
    if len(asked):
        questions = [data.items.questions[i] for i in asked.tolist()]
        seen = data.take(asked).values.to(site.device)
        texts, answers = [q.text for q in questions], [q.answer for q in questions]
        found["understanding_loss"] = model.understanding_loss(seen, texts, answers)
    if len(told):
        texts = [data.items.captions[i].text for i in told.tolist()]
        found["generation_loss"] = model.generation_loss(texts, data.targets[told].to(site.device), draws)
    return found


def _mixed(site: UnifiedSite, terms: dict[str, Tensor]) -> Tensor:
    """The site's loss: understanding, and ``generation_weight`` times generation."""
    weight = {"understanding_loss": 1.0, "generation_loss": site.config.require_unified().generation_weight}
    return torch.stack([weight[name] * term for name, term in terms.items()]).sum()


def _soft_accuracy(site: UnifiedSite, data: UnifiedData, asked: Tensor) -> float:
    questions = [data.items.questions[i] for i in asked.tolist()]
    given = site.model.unified.understand(data.take(asked).values.to(site.device), [q.text for q in questions])
    return fmean(soft_accuracy(answer, q.answers) for answer, q in zip(given, questions, strict=True))


def _geneval(site: UnifiedSite) -> dict[str, float]:
    """The same draws at every site: what differs is the model."""
    draws = derive_generator(site.job.seed, "geneval")
    images = []
    for i in range(0, len(site.prompts), _BATCH):
        images += site.model.unified.generate([p.text for p in site.prompts[i : i + _BATCH]], draws)
    found = score(site.prompts, images, site.detector)
    return {"geneval" if skill == "overall" else f"geneval_{skill}": share for skill, share in found.items()}


def _batches(site: UnifiedSite, count: int, what: str, round: int) -> Iterator[Tensor]:
    """Rows of shuffled batches without end, the same for the same seed, site and round; empty ones of nothing."""
    generator = derive_generator(site.job.seed, site.name, what, round)
    size, order = min(site.job.training.batch_size, count), torch.empty(0, dtype=torch.long)
    while True:
        if len(order) < size:
            order = torch.cat([order, torch.randperm(count, generator=generator)])
        rows, order = order[:size], order[size:]
        yield rows
