"""A site with a unified model, opened: it takes part in a federation as any other site does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedgram.config.job import JobConfig
from fedgram.config.site import UNIFIED, SiteConfig
from fedgram.data.prompts import Prompt
from fedgram.methods import Method
from fedgram.model import lora
from fedgram.model.backbone import fingerprint
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import hidden_width
from fedgram.model.unified.base import UnifiedModel
from fedgram.model.unified.loading import load_unified
from fedgram.records import AnchorTokens, ModelSpec, Tokens
from fedgram.scoring.geneval.rules import Detector
from fedgram.sites.tokens import choose_device
from fedgram.sites.unified_data import UnifiedData

_BATCH = 32


@dataclass(frozen=True)
class Kind:
    """What a unified site calls its modality; its anchors are those of images."""

    name: str


class UnifiedSiteModel:
    """A unified model whose tower trains, as rounds, sessions and methods see a site's model.

    It has no adapter and no head of its own: nothing but the shared update trains, so ``local`` is empty.

    Attributes:
        unified: the model.
        transformer: its tower, wrapped by PEFT in place.
    """

    bridge: ClassVar[None] = None

    def __init__(self, unified: UnifiedModel, transformer: torch.nn.Module):
        self.unified, self.transformer = unified, transformer

    def represent(self, tokens: Tokens, *, adapter_learns: bool = True) -> Tensor:
        """z of pictures as they are seen, (N, d), float32; there is no adapter that could learn."""
        return self.unified.represent(tokens.values)

    @torch.no_grad()
    def embed(self, tokens: Tokens) -> Tensor:
        """z of many pictures, in batches, without gradient: (N, d), float32, on the CPU."""
        return torch.cat([self.unified.represent(part).cpu() for part in tokens.values.split(_BATCH)])

    def local(self) -> dict[str, torch.nn.Module]:
        """Nothing."""
        return {}

    def local_state(self) -> dict[str, Tensor]:
        """Nothing."""
        return {}

    def load_local_state(self, state: Mapping[str, Tensor]) -> None:
        """Undo :meth:`local_state`."""


@dataclass(frozen=True)
class UnifiedSite:
    """Everything a unified site needs to take part; what it shares with :class:`~fedgram.sites.single.Site` has
    the same name there.

    Attributes:
        name: of the site.
        config, job: where and what.
        data: questions and captions by split.
        prompts: of GenEval, for the evaluation; empty where the site file names none.
        detector: that looks at the pictures made from them.
        anchors, heldout: public pictures as the model sees them.
        method: what is shared with the other sites.
        model: the unified model and its tower.
        spec: of the tower.
        optimizer: over the update; kept across rounds.
        initial: the local state before any training.
    """

    name: str
    config: SiteConfig
    job: JobConfig
    data: Mapping[str, UnifiedData]
    prompts: Sequence[Prompt]
    detector: Detector
    anchors: AnchorTokens
    heldout: AnchorTokens | None
    method: Method
    model: UnifiedSiteModel
    spec: ModelSpec
    optimizer: torch.optim.Optimizer
    initial: Mapping[str, Tensor]

    @property
    def modality(self) -> Kind:
        return Kind(UNIFIED)

    @property
    def device(self) -> torch.device:
        return next(self.model.unified.head.parameters()).device


def build_model(config: SiteConfig, job: JobConfig, method: Method) -> tuple[UnifiedSiteModel, ModelSpec]:
    """The job's unified model with adapters on its tower, where the site computes.

    Raises:
        BackboneError, ConfigError: it cannot be loaded, or the device is not there.
    """
    unified = load_unified(job.backbone, config.backbones, config.precision, str(choose_device(config.device)))
    base, width = fingerprint(unified.tower), hidden_width(unified.tower)
    transformer = lora.attach_update(unified.tower, job, train_a=method.trains_a)
    if config.gradient_checkpointing:
        recompute_layers(transformer)
    return UnifiedSiteModel(unified, transformer), ModelSpec(
        shapes=lora.spec(transformer), backbone=base, width=width
    )
