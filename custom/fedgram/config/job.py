"""Every setting of a job, with its default and its range.

A job says what is computed (:class:`JobConfig`, part of the FLARE job); a site says where its data are and on
what it computes (:mod:`fedgram.config.site`). Neither can say the other's part.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from fedgram.config.ranges import METRIC_NAME, require_maskable, require_moderate
from fedgram.config.ranges import require as _require
from fedgram.config.strict import composed, to_dict
from fedgram.core.cka import CkaVariant
from fedgram.core.robust import Rule
from fedgram.core.server_step import ServerOptimizer
from fedgram.core.uncertainty import U_MIN, LapVariant

# Training, the metrics of every task, those of pairs, those of what a site keeps in the end (the weights of its
# mixture, and its gain over home), floors, unified models: a site sends those that its own task and data have.
METRICS = (
    *("loss", "task_loss", "cka", "seconds"),
    *("accuracy", "macro_f1", "auroc", "mae", "r2", "dice", "iou"),
    *("bridge_loss", "pair_recall"),
    *("kept_home", "kept_together", "kept_directory", "kept_frozen", "gain", "gain_se"),
    *("frozen_lr", "frozen_knn", "own_anchors", "test_samples", "test_groups"),
    *("understanding_loss", "generation_loss", "vqa_accuracy", "geneval"),
    *(
        f"geneval_{skill}"
        for skill in ("single_object", "two_object", "counting", "colors", "position", "color_attr")
    ),
)
WeightRule = Literal["precision", "samples", "uniform"]
_HUB_ID = re.compile(r"(\w[\w.-]*/)?\w[\w.-]*", re.ASCII)


@dataclass(frozen=True)
class AnchorPin:
    """The anchor set that a job uses, pinned by content.

    Attributes:
        sha256: hash of the manifest; a site with another set is refused.
        concepts: the concept of each of the B slots, in slot order.
    """

    sha256: str
    concepts: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "concepts", tuple(composed(self.concepts)))
        hexadecimal = re.fullmatch("[0-9a-f]{64}", self.sha256)
        _require(bool(hexadecimal), "anchors.sha256", self.sha256[:80], "64 hexadecimal digits")
        require_moderate("anchors.concepts", self.slots)
        _require(self.slots >= 4, "anchors.concepts", self.slots, "at least 4 slots (debiased CKA)")

    @property
    def slots(self) -> int:
        """The number of slots, B."""
        return len(self.concepts)


@dataclass(frozen=True)
class BackboneConfig:
    """The shared transformer, by a name that every site resolves for itself.

    Attributes:
        name: a hub id (``org/name``) or a name that the site file maps to a folder; never a path.
        layers: the number of layers to keep, from the first; all when absent.
    """

    name: str = "minilm"
    layers: int | None = None

    def __post_init__(self) -> None:
        hub_id = _HUB_ID.fullmatch(self.name) and ".." not in self.name
        _require(bool(hub_id), "backbone.name", self.name, "a hub id; a job cannot name a path at a site")
        _require(self.layers is None or self.layers >= 1, "backbone.layers", self.layers, "at least 1")
        require_moderate("backbone.layers", self.layers or 1)


@dataclass(frozen=True)
class AdapterConfig:
    """The low-rank update and the layers that it adapts (eq. 4 and 5).

    Attributes:
        rank: the rank r of the update.
        alpha: the update is scaled by s = alpha / r.
        targets: suffixes of the linear layers to adapt, or ``["all-linear"]``.
        dora: GeoDoRA (eq. 5) when true, GeoLoRA (eq. 4) when false.
        magnitude: whether m is averaged over the sites (``mean``) or never leaves them (``private``).
    """

    rank: int = 16
    alpha: float = 32.0
    targets: tuple[str, ...] = ("all-linear",)
    dora: bool = True
    magnitude: Literal["private", "mean"] = "private"

    def __post_init__(self) -> None:
        _require(self.rank >= 1, "adapter.rank", self.rank, "at least 1")
        require_moderate("adapter.rank", self.rank)
        _require(self.alpha > 0, "adapter.alpha", self.alpha, "positive")
        _require(len(self.targets) > 0, "adapter.targets", self.targets, "at least one layer name")

    @property
    def peft_targets(self) -> str | tuple[str, ...]:
        """The targets as PEFT wants them."""
        return "all-linear" if self.targets == ("all-linear",) else self.targets

    @property
    def scale(self) -> float:
        """The factor s of eq. (4)."""
        return self.alpha / self.rank

    @property
    def shares_magnitude(self) -> bool:
        """Whether m leaves the site."""
        return self.dora and self.magnitude == "mean"


@dataclass(frozen=True)
class TrainingConfig:
    """The work of a site in one round.

    Attributes:
        rounds: the number of rounds T.
        local_steps: optimiser steps of a site in one round.
        batch_size: samples in one step.
        learning_rate: AdamW's learning rate for B and m.
        local_learning_rate: AdamW's learning rate for the site's own adapter and head.
        final_rate: the share of both that is left in the last round; from the first on they fall in a line.
        weight_decay: AdamW's weight decay for the site's own adapter and head.
        geometry_weight: the weight λ of the geometry loss, eq. (3).
        geometry_every: the geometry loss takes part in every n-th step, n times as strong: as strong on average,
            at a fraction of its cost.
        concept_weight: the weight of a loss that names a sample's concept by its place among the anchors, where Ḡ
            says which place that is (:mod:`fedgram.core.concepts`); 0 is the paper.
        cka: the variant of CKA, eq. (2), in the geometry loss.
        geometry_trains: the parameters that the geometry loss may change: the shared ``direction`` B alone, or
            the whole ``pipeline``, the site's linear adapter included. That adapter has enough parameters to fit
            a few anchors by heart.
        anchor_labels: whether anchors whose concept is among the classes of a site's own classification train its
            head as labelled samples.
    """

    rounds: int = 24
    local_steps: int = 4
    batch_size: int = 32
    learning_rate: float = 2e-3
    local_learning_rate: float = 1e-3
    final_rate: float = 1.0
    weight_decay: float = 0.01
    geometry_weight: float = 1.0
    geometry_every: int = 1
    concept_weight: float = 0.3
    cka: CkaVariant = "centered"
    geometry_trains: Literal["direction", "pipeline"] = "pipeline"
    anchor_labels: bool = True

    def __post_init__(self) -> None:
        for name in ("rounds", "local_steps", "batch_size", "geometry_every"):
            _require(getattr(self, name) >= 1, f"training.{name}", getattr(self, name), "at least 1")
            require_moderate(f"training.{name}", getattr(self, name))
        for name in ("learning_rate", "local_learning_rate"):
            _require(getattr(self, name) > 0, f"training.{name}", getattr(self, name), "positive")
        _require(0 < self.final_rate <= 1, "training.final_rate", self.final_rate, "in (0, 1]")
        for name in ("weight_decay", "geometry_weight", "concept_weight"):
            _require(getattr(self, name) >= 0, f"training.{name}", getattr(self, name), "not negative")


@dataclass(frozen=True)
class AggregationConfig:
    """The work of the server on the sites' replies.

    Attributes:
        weights: the weight p_k of a site: the mean of 1/u (``precision``), its number of samples, or 1.
        lap: the variant of anchor proximity u, eq. (6).
        u_min: the smallest value of u; smaller ones are raised to it.
        weight_samples: the largest number of training samples from which a site estimates p_k.
        max_share: the largest share of the sum of weights that one site may hold.
        clip: the length to which the changes of ΔB, m and a group, and the distance of G from Ḡ, are shortened, as
            a multiple of the running median over sites; a weight likewise. 0 leaves all as they come.
        rule: what is made of the changes: their weighted ``mean``, or the ``trimmed_mean``, the ``median`` of each
            coordinate or ``centred_clipping``, which hold the replies of all sites in memory.
        tolerated: the share of the sites that may lie under these rules, below ½: none of 2 or 3 by default, one
            of 4. Where it comes to no site, they are the mean.
        mixing: whether each reply is replaced by the mean of its nearest ones first; holds all in memory.
        consensus: Ḡ as the ``mean`` of the sites' G, or the ``median`` of each entry, which holds all in memory.
        server_optimizer: the server's step on the mean change: ``momentum`` is B ← B + η v with
            v ← β v + mean ΔB, ``adam`` that of Reddi et al. 2021.
        server_learning_rate: the learning rate η of that step.
        server_momentum: the momentum β of that step; β₁ of ``adam``.
        min_sites: the number of good replies that a round needs, and every stage after the last; with fewer the
            job fails.
        deadline_seconds: the time after which a round ends with the sites that have replied; 0 is no deadline.
        setup_seconds: the deadline for reading and tokenising before the first round, and for the evaluation.
        max_update_norm: the largest Frobenius norm of a ΔB over all layers; a larger one is refused.
        masked: whether the server is given the sums over the sites alone, never one site's numbers.
    """

    weights: WeightRule = "precision"
    lap: LapVariant = "centered"
    u_min: float = U_MIN
    weight_samples: int = 256
    max_share: float = 0.5
    clip: float = 2.0
    rule: Rule = "mean"
    tolerated: float = 0.25
    mixing: bool = False
    consensus: Literal["mean", "median"] = "mean"
    server_optimizer: ServerOptimizer = "momentum"
    server_learning_rate: float = 1.0
    server_momentum: float = 0.0
    min_sites: int = 2
    deadline_seconds: int = 3600
    setup_seconds: int = 4 * 3600
    max_update_norm: float = 1000.0
    masked: bool = False

    def __post_init__(self) -> None:
        for name in ("weight_samples", "min_sites", "deadline_seconds", "setup_seconds"):
            require_moderate(f"aggregation.{name}", getattr(self, name))
        _require(0 < self.u_min <= 1, "aggregation.u_min", self.u_min, "in (0, 1]")
        _require(self.weight_samples >= 1, "aggregation.weight_samples", self.weight_samples, "at least 1")
        _require(0 < self.max_share <= 1, "aggregation.max_share", self.max_share, "in (0, 1]")
        _require(self.clip == 0 or self.clip >= 1, "aggregation.clip", self.clip, "0, or 1 or more")
        _require(0 <= self.tolerated < 0.5, "aggregation.tolerated", self.tolerated, "in [0, 0.5)")
        for name in ("server_learning_rate", "max_update_norm"):
            _require(getattr(self, name) > 0, f"aggregation.{name}", getattr(self, name), "positive")
        _require(0 <= self.server_momentum < 1, "aggregation.server_momentum", self.server_momentum, "in [0, 1)")
        _require(self.min_sites >= 1, "aggregation.min_sites", self.min_sites, "at least 1")
        for name in ("deadline_seconds", "setup_seconds"):
            _require(getattr(self, name) >= 0, f"aggregation.{name}", getattr(self, name), "not negative")
        if self.masked:
            require_maskable(self)


@dataclass(frozen=True)
class MethodConfig:
    """The method: what the sites share, and what they add to their loss; see :mod:`fedgram.methods`.

    Attributes:
        name: ``geo`` is GeoLoRA and GeoDoRA; any other must be allowed by a site's own file: one of
            :mod:`fedgram.methods`, or ``package.module:Class``.
        strength: the weight of the loss term that the method adds, if it adds one.
        temperature: the temperature of that term, if it is a contrastive one.
    """

    name: str = "geo"
    strength: float = 1.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        _require(self.strength >= 0, "method.strength", self.strength, "not negative")
        _require(self.temperature > 0, "method.temperature", self.temperature, "positive")


@dataclass(frozen=True)
class JobConfig:
    """The algorithm of one job; the server sends it to the sites with every task.

    Attributes:
        anchors: the anchor set for training.
        heldout: a disjoint anchor set, for evaluation only.
        method: the method and its own settings.
        backbone: the shared transformer.
        adapter: the low-rank update.
        training: the sites' work in one round.
        aggregation: the server's work on their replies.
        metrics: the numbers that sites send besides the contract, as far as their tasks have them; no other is
            sent.
        baseline: whether every site is also trained alone, with the same budget, for the report.
        seed: the seed of A, the adapters, the heads and the batches; a masked job needs one of its own.
    """

    anchors: AnchorPin
    heldout: AnchorPin | None = None
    method: MethodConfig = field(default_factory=MethodConfig)
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    aggregation: AggregationConfig = field(default_factory=AggregationConfig)
    metrics: tuple[str, ...] = METRICS
    baseline: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name in self.metrics:
            _require(bool(METRIC_NAME.fullmatch(name)), "metrics", name[:80], "a word: letters, digits, . _ -")

    def fingerprint(self) -> str:
        """The sha256 over every setting: two jobs with the same one compute the same thing."""
        return sha256(json.dumps(to_dict(self), sort_keys=True).encode()).hexdigest()
