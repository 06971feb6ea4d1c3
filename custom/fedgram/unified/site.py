"""A site with a unified model, opened: it takes part in a federation as any other site does."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL.Image import Image
from torch import Tensor

from fedgram.config import JobConfig
from fedgram.errors import ConfigError
from fedgram.methods import Method, method_of, require_allowed
from fedgram.modalities.image import MODALITY as IMAGE
from fedgram.model import lora
from fedgram.model.backbone import fingerprint
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import hidden_width
from fedgram.reading.pixels import open_image
from fedgram.sitefile import UNIFIED, SiteConfig
from fedgram.training.site import find_anchors, require_heldout
from fedgram.training.state import make_optimizer, snapshot
from fedgram.training.tokens import choose_device
from fedgram.types import AnchorTokens, ModelSpec, Tokens
from fedgram.unified.base import UnifiedModel
from fedgram.unified.data import UnifiedData, as_tokens, look, read_items, split_items
from fedgram.unified.demo import locate
from fedgram.unified.geneval.exact import ExactDetector
from fedgram.unified.geneval.open_vocabulary import OpenVocabularyDetector
from fedgram.unified.geneval.prompts import Prompt, read_prompts
from fedgram.unified.geneval.rules import Detector
from fedgram.unified.loading import load_unified

log = logging.getLogger("fedgram.site")

_NEED_LABELS = ("creamfl", "fedproto")  # methods over representations of labelled samples
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
    """Everything a unified site needs to take part; what it shares with :class:`~fedgram.training.site.Site` has
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


def open_unified_site(name: str, config: SiteConfig, job: JobConfig) -> UnifiedSite:
    """Read, look and build: every error that can be known before training is raised here.

    Raises:
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    from fedgram.unified import result, rounds  # noqa: F401 - they say how unified sites train and what they keep

    require_allowed(name, config, job)
    if job.method.name in _NEED_LABELS:
        raise ConfigError(f"method {job.method.name!r}", where=name, expected="one that needs no labelled samples")
    if config.threads:
        torch.set_num_threads(config.threads)
    parts = split_items(read_items(config))
    file = config.require_unified().prompts
    prompts = read_prompts(locate(file, Path(config.cache).expanduser())) if file is not None else []
    detector = make_detector(config)
    method = method_of(job)
    model, spec = build_model(config, job, method)
    anchors = _anchors(name, config, config.anchors, job, model.unified)
    heldout = None
    if job.heldout is not None:
        folder = require_heldout(name, config)
        heldout = _anchors(name, config, folder, job, model.unified, held_out=True)
    data = {part: look(items, model.unified) for part, items in parts.items()}
    optimizer = make_optimizer(model, job)
    log.info("%s: %s samples, %d anchors", name, {k: len(v) for k, v in data.items()}, len(anchors.slots))
    initial = snapshot(model, optimizer)
    judges = (prompts, detector)
    return UnifiedSite(name, config, job, data, *judges, anchors, heldout, method, model, spec, optimizer, initial)


def make_detector(config: SiteConfig) -> Detector:
    """What looks at the pictures that a site makes: for rendered scenes, or for photographs.

    Raises:
        BackboneError: an open-vocabulary detector that cannot be loaded.
    """
    settings = config.require_unified()
    if settings.detector is None:
        return ExactDetector()
    return OpenVocabularyDetector(settings.detector, settings.colours, device=str(choose_device(config.device)))


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
    return UnifiedSiteModel(unified, transformer), ModelSpec(lora.spec(transformer), base, width)


def _anchors(
    name: str, config: SiteConfig, folder: str, job: JobConfig, model: UnifiedModel, *, held_out: bool = False
) -> AnchorTokens:
    pin = job.heldout if held_out else job.anchors
    anchors = find_anchors(name, config, folder, pin, IMAGE.name)
    pictures: list[Image] = [open_image(picture) for picture in anchors.contents(IMAGE)]
    seen = torch.cat([model.see(pictures[i : i + _BATCH]) for i in range(0, len(pictures), _BATCH)])
    return AnchorTokens(anchors.covered(IMAGE.name), as_tokens(seen), anchors.manifest_sha256)
