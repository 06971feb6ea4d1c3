"""One round at one site, and the tasks around it, for sites of every kind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from fedgram import __version__
from fedgram.core.gram import cosine_gram
from fedgram.core.uncertainty import anchor_proximity, precision
from fedgram.errors import BackboneError
from fedgram.model import lora
from fedgram.records import WIRE_DTYPE, GlobalState, SiteEvaluation, SiteIntroduction, SiteUpdate, below
from fedgram.sites.base import Site
from fedgram.sites.groups import adopt_groups, changes_of, parameters_of
from fedgram.sites.guarantee import METRICS
from fedgram.sites.secret import private_generator
from fedgram.sites.state import restore, set_rates, snapshot
from fedgram.training.private import train_privately
from fedgram.training.step import train


def introduce(site: Site) -> SiteIntroduction:
    """Answer round 0: the site's model, and the Gram of its untrained representation (there is no Ḡ yet).

    In a masked job neither that nor the number of samples is said: G is summed under masks.
    """
    masked = site.job.aggregation.masked
    return SiteIntroduction(
        site=site.name,
        version=__version__,
        anchors_sha256=site.anchors.sha256,
        spec=site.spec,
        gram=torch.zeros(0, 0) if masked else cosine_gram(site.model.embed(site.anchors.tokens)),
        slots=site.anchors.slots,
        samples=0 if masked else samples_said(site),
        modality=site.modality.name,
        groups=site.groups,
        shared_shapes={k: tuple(p.shape) for k, p in parameters_of(site.model.local(), site.groups).items()},
        m=below("m/", site.initial) if site.job.adapter.shares_magnitude else {},
        privacy={} if (g := site.guarantee) is None else {"epsilon": g.epsilon, "delta": g.delta},
    )


def local_round(
    site: Site,
    state: GlobalState,
    adopted: Callable[[], None] = lambda: None,
    charge: Callable[[str], None] | None = None,
) -> SiteUpdate:
    """Train for the job's local steps from the global B and report what changed.

    min over W_m, B, m and the head of L_task + λ (1 − CKA(G, Ḡ)), eq. (3).

    Args:
        adopted: called when the site has the global model, and has not yet trained it.
        charge: books the round, by a digest of all that it starts from, where the site promises differential
            privacy; what it raises ends the round before it has begun.

    Raises:
        ConfigError: the site promises it, and nobody keeps its account.
    """
    settings, rules = site.job.training, site.job.aggregation
    adopt(site, state)
    adopted()
    started = time.perf_counter()
    set_rates(site.optimizer, site.job, state.round + 1)
    if site.guarantee is None:
        metrics = train(site, state.round + 1, settings.local_steps, state)
    else:
        metrics = train_privately(site, state, charge)
    seconds = time.perf_counter() - started
    trained = lora.get_B(site.model.transformer)
    anchors = site.model.embed(site.anchors.tokens)
    metrics |= {"seconds": seconds} | (site.evaluate("validation") if site.guarantee is None else {})
    return SiteUpdate(
        site=site.name,
        round=state.round + 1,
        anchors_sha256=site.anchors.sha256,
        delta_B={k: (trained[k] - b).to(WIRE_DTYPE).contiguous() for k, b in state.B.items()},
        m=lora.get_m(site.model.transformer) if site.job.adapter.shares_magnitude else {},
        gram=cosine_gram(anchors),
        slots=site.anchors.slots,
        weight=site_weight(site, anchors, state.round + 1) if rules.weights != "uniform" else 1.0,
        samples=samples_said(site),
        metrics=_named(site, metrics),
        extra=site.method.extra(site, state),
        shared=changes_of(site, state.shared),
    )


def train_alone(site: Site) -> None:
    """Train from the beginning, with the steps and batches of a whole run but neither Ḡ nor the others' B.

    The site ends as it was after the round with the lowest validation loss, the first of several; after the last
    round where it has no validation samples.
    """
    settings, lowest, best = site.job.training, float("inf"), None
    reset(site)
    for round in range(1, settings.rounds + 1):
        set_rates(site.optimizer, site.job, round)
        train(site, round, settings.local_steps)
        loss = site.validation_loss()
        if loss is not None and loss < lowest:
            lowest, best = loss, snapshot(site.model, site.optimizer)
    if best is not None:
        restore(site.model, site.optimizer, best)


def reset(site: Site) -> None:
    """Make a site as it was when it was opened."""
    lora.drop_residual(site.model.transformer)
    restore(site.model, site.optimizer, site.initial)


def adopt(site: Site, state: GlobalState) -> None:
    """Take over the global B, where magnitudes are averaged the global m, what groups and method share besides.

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
    adopt_groups(site, state.shared)
    site.method.adopt(site, state)


def site_weight(site: Site, anchors: Tensor, round: int) -> float:
    """Weigh a site by the job's rule: p_k before normalisation, from at most ``weight_samples`` samples."""
    rules, data = site.job.aggregation, site.data["train"]
    if site.guarantee is not None:
        return 1.0
    if rules.weights == "samples":
        return float(len(data))
    generator = private_generator(site.name, site.config, site.job, "weight", round)
    order = torch.randperm(len(data), generator=generator)
    chosen = order[: rules.weight_samples].sort().values
    u = anchor_proximity(site.model.embed(data.take(chosen)), anchors, rules.lap)
    return precision(u, u_min=rules.u_min)


def samples_said(site: Site) -> int:
    """The number of training samples that a site says it has: 1 where it promises differential privacy."""
    return len(site.data["train"]) if site.guarantee is None else 1


def evaluation(site: Site, split: str = "test", metrics: Mapping[str, float] | None = None) -> SiteEvaluation:
    """Metrics on a split and the geometry of public anchors, of the model as it is now.

    Args:
        metrics: instead of the model's own on that split.
    """
    tokens = [site.anchors.tokens] + ([site.heldout.tokens] if site.heldout else [])
    return SiteEvaluation(
        site=site.name,
        metrics=_named(site, site.evaluate(split) if metrics is None else metrics),
        gram=cosine_gram(torch.cat([site.model.embed(part) for part in tokens])),
        slots=site.anchors.slots,
        heldout_slots=site.heldout.slots if site.heldout else (),
    )


def withheld(site: Site, evaluation: SiteEvaluation) -> SiteEvaluation:
    """The part of an evaluation that leaves the site: of a masked job's nothing, the site keeps it for itself."""
    if not site.job.aggregation.masked:
        return evaluation
    return SiteEvaluation(site=site.name, metrics={}, gram=torch.zeros(0, 0), slots=(), heldout_slots=())


def floors(site: Site) -> dict[str, float]:
    """The floors of a site's test split, of those that the job names."""
    return _named(site, site.floors())


def _named(site: Site, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that the job names, of a private site those that follow from public data: no other leaves it."""
    allowed = [name for name in site.job.metrics if site.guarantee is None or name in METRICS]
    return {name: float(metrics[name]) for name in allowed if name in metrics}
