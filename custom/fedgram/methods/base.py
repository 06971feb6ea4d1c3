"""A federated method: what the sites share, what they add to their loss, what the server makes of it.

Everything else is the same for every method: sites, tokens, backbone, budget, rounds, checks, transport. So a
comparison between methods compares the methods.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.errors import ConfigError
from fedgram.model.site_model import LocalModel
from fedgram.records import AnchorTokens, GlobalState, ModelSpec, SiteUpdate

Settings = Mapping[str, Mapping[str, Any]]  # of a job, by part; see fedgram.config.job
PLAIN: Settings = {
    "adapter": {"dora": False},
    "training": {"geometry_weight": 0.0, "concept_weight": 0.0},
    "aggregation": {"weights": "samples"},
}


def merged(settings: Settings, changes: Settings) -> dict[str, Any]:
    """Settings of a job with some of them changed; settings of a part that is not named stay."""
    changed = {part: {**settings.get(part, {}), **values} for part, values in changes.items()}
    return {**settings, **changed}


@dataclass(frozen=True)
class Closing:
    """All that the server has when a round ends.

    Attributes:
        before: the state that the sites started from.
        B: after the round.
        means: weighted means of :meth:`Method.terms`, float64, by modality; under ``""`` of all sites together.
        shares: of each of these groups in the sum of all weights, none of which exceeds ``max_share``.
        step: the server's optimiser: of a name and the mean change, what is added.
    """

    before: GlobalState
    B: Mapping[str, Tensor]
    means: Mapping[str, Mapping[str, Tensor]]
    shares: Mapping[str, float]
    step: Callable[[str, Tensor], Tensor]

    @property
    def mean(self) -> Mapping[str, Tensor]:
        """Over all sites."""
        return self.means[""]


@dataclass(frozen=True)
class TaskLoss:
    """The loss of one batch on a site's own task, before anything of the federation is added to it.

    Attributes:
        loss: a scalar, with gradient.
        z: (N, d), of the batch, with gradient; None where its samples have no labels (a unified site).
        rows: (N,) int64, of the batch in the site's ``data["fit"]``; None likewise.
    """

    loss: Tensor
    z: Tensor | None = None
    rows: Tensor | None = None

    def samples(self) -> tuple[Tensor, Tensor]:
        """The representations z and the rows of a batch of labelled samples.

        Raises:
            ConfigError: the site's samples have no labels.
        """
        if self.z is None or self.rows is None:
            raise ConfigError("a method that needs labelled samples", expected="a site of one modality")
        return self.z, self.rows


class Named(Protocol):
    """Anything with a name; of a modality it is all that a method looks at."""

    @property
    def name(self) -> str: ...


class SiteView(Protocol):
    """The part of a site that a method sees; all of it is :class:`fedgram.sites.base.Site`."""

    @property
    def model(self) -> LocalModel: ...
    @property
    def optimizer(self) -> torch.optim.Optimizer: ...
    @property
    def spec(self) -> ModelSpec: ...
    @property
    def modality(self) -> Named: ...
    @property
    def anchors(self) -> AnchorTokens: ...
    @property
    def data(self) -> Mapping[str, Any]: ...


class Method:
    """A federated method; this one is the weighted mean of B over all sites, from which every other starts.

    A method has no state of its own: what changes is in the server's state and in the site's model. A new one is
    a class in a file of its own; everything else that names methods reads it from here.

    Args:
        job: the settings.

    Attributes:
        name: the name in jobs and site files; a method of another package is named by its import path instead.
        title: the name in tables.
        source: the authors and year of the paper.
        shares: what the sites share, in a phrase for tables.
        sends_what: what leaves a site beyond B, m, G and one weight, in words; empty when nothing does.
        trains_a: whether A of LoRA trains too.
        sends_whole_factors: whether A and B are sent as they are, not how they changed.
        by_modality: whether only sites of the same modality are averaged.
        needs_labels: whether it needs labelled samples, which a site with a unified model does not have.
        settings: the settings in which a job of this method differs from one of GeoDoRA.
        variants: further jobs of the method: their settings beyond ``settings``, by name.

    Raises:
        ConfigError: settings that the method has no meaning for.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    shares: ClassVar[str] = ""
    sends_what: ClassVar[str] = ""
    trains_a: ClassVar[bool] = False
    sends_whole_factors: ClassVar[bool] = False
    by_modality: ClassVar[bool] = False
    needs_labels: ClassVar[bool] = False
    settings: ClassVar[Settings] = PLAIN
    variants: ClassVar[Mapping[str, Settings]] = {}

    def __init__(self, job: JobConfig):
        if self.trains_a and job.adapter.dora:
            raise ConfigError("adapter.dora", where=f"method {job.method.name!r}", expected="false: A trains too")
        if job.aggregation.masked and (self.sends_what or self.by_modality):
            why = self.sends_what or "means by modality"
            raise ConfigError(
                f"method {job.method.name!r} in a masked job",
                where="aggregation.masked",
                expected=f"one that sends B, m and G alone, to one sum over all sites; this one has {why}",
                remedy="take method 'geo', or set masked to False",
            )
        self.job = job

    # at the server

    def shares_b(self, layer: str) -> bool:
        """Whether B of a layer is averaged; otherwise it stays at the site."""
        return True

    def sends(self, spec: ModelSpec) -> dict[str, tuple[int, ...]]:
        """Shapes of :attr:`SiteUpdate.extra` by name; names in ``A/`` and ``B/`` are bf16, all others float32."""
        return {}

    def start(self, spec: ModelSpec) -> dict[str, Tensor]:
        """Make :attr:`GlobalState.extra`, before the first round."""
        return {}

    def terms(self, update: SiteUpdate, state: GlobalState) -> Mapping[str, Tensor]:
        """Choose, on arrival, the tensors of a site's extras that the server averages."""
        return update.extra

    def finish(self, round: Closing) -> dict[str, Tensor]:
        """Make :attr:`GlobalState.extra`, after a round."""
        return {}

    # at a site

    def adopt(self, site: SiteView, state: GlobalState) -> None:
        """Take over :attr:`GlobalState.extra`; the shared B and m are in place."""

    def penalty(self, site: SiteView, state: GlobalState, task: TaskLoss) -> Tensor | None:
        """Make the term that the method adds to the loss of one step, already weighted; None when it adds none."""
        return None

    def extra(self, site: SiteView, state: GlobalState) -> dict[str, Tensor]:
        """Make :attr:`SiteUpdate.extra`, after the local steps."""
        return {}
