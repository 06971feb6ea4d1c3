"""A site, opened: its tokens, anchors and model, ready to train. Nothing here knows FLARE."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fedgram import modalities
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.config.job import AnchorPin, JobConfig
from fedgram.config.site import SPLIT, SiteConfig
from fedgram.demo.files import locate
from fedgram.errors import AnchorError, ConfigError
from fedgram.methods import Method, method_of, require_allowed
from fedgram.modalities.base import Modality, Tokenizer
from fedgram.model import lora
from fedgram.model.backbone import base_fingerprint, load_backbone
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale, hidden_width, width
from fedgram.model.tasks import Task, make_task
from fedgram.records import AnchorTokens, LabelledTokens, ModelSpec, Sample, Tokens
from fedgram.sites.pairs import Bridge, open_bridge, reopen_bridge
from fedgram.sites.samples import concepts_of, read_samples, split_samples
from fedgram.sites.state import make_optimizer, snapshot
from fedgram.sites.tokens import OnDemand, choose_device, make_tokenizer, tokens_of

log = logging.getLogger("fedgram.site")


@dataclass(frozen=True)
class Site:
    """Everything a site needs to take part.

    Attributes:
        name: of the site.
        config, job: where and what.
        modality, tokenizer: how its data become tokens.
        data: labelled tokens by split: ``train``, ``validation``, ``test``.
        anchors, heldout: anchor tokens.
        task: what the head does.
        method: what is shared with the other sites.
        model: adapter, shared transformer and head.
        spec: of the shared transformer.
        optimizer: over everything that trains; kept across rounds.
        initial: the local state before any training.
        bridge: its second modality, if it has one. Only the contrastive loss knows of it: anchors, Gram matrix,
            head and weight are those of the first modality, as at any other site.
    """

    name: str
    config: SiteConfig
    job: JobConfig
    modality: Modality
    tokenizer: Tokenizer
    data: Mapping[str, LabelledTokens]
    anchors: AnchorTokens
    heldout: AnchorTokens | None
    task: Task
    method: Method
    model: SiteModel
    spec: ModelSpec
    optimizer: torch.optim.Optimizer
    initial: Mapping[str, Tensor]
    bridge: Bridge | None = None

    def tokens_of(self, contents: Sequence[Any], *, bridge: bool = False) -> Tokens:
        """Frozen tokens of raw contents, from the site's cache where they are there.

        Args:
            bridge: they are of the second modality.

        Raises:
            ConfigError: the site has none.
        """
        second = self.require_bridge() if bridge else None
        modality, tokenizer = (second.modality, second.tokenizer) if second else (self.modality, self.tokenizer)
        return tokens_of(modality, tokenizer, contents, self.config)

    def require_bridge(self) -> Bridge:
        """The second modality.

        Raises:
            ConfigError: there is none.
        """
        if self.bridge is None:
            raise ConfigError("no second modality", where=self.name, expected="a [bridge] in its site file")
        return self.bridge

    @property
    def device(self) -> torch.device:
        return next(self.model.head.parameters()).device


def derive_generator(*parts: object) -> torch.Generator:
    """A CPU generator that depends on nothing but the given parts, in any process."""
    digest = sha256("|".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def open_site(name: str, config: SiteConfig, job: JobConfig) -> Site:
    """Read, tokenise and build: every error that can be known before training is raised here.

    Raises:
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    require_allowed(name, config, job)
    if config.threads:
        torch.set_num_threads(config.threads)
    method = method_of(job)
    modality = modalities.load(config.modality)
    cache = Path(config.cache).expanduser()
    parts = split_samples(name, read_samples(config, modality), config.concepts)
    task = make_task(config, parts["train"])
    trained = concepts_of(parts["train"])
    require_common_concept(name, trained, load_anchors(locate(config.anchors, cache)), modality.name)
    tokenizer = make_tokenizer(config.tokenizer, modality, parts["train"], config)
    anchors = _anchor_tokens(name, config, config.anchors, job.anchors, modality, tokenizer)
    heldout = None
    if job.heldout is not None:
        folder = require_heldout(name, config)
        heldout = _anchor_tokens(name, config, folder, job.heldout, modality, tokenizer)
    data = {split: _labelled(modality, tokenizer, part, task, config) for split, part in parts.items()}
    bridge = open_bridge(name, config, parts)
    paired = bridge.pairs["train"].tokens if bridge else None
    model, spec = _build_model(name, config, job, data["train"].tokens, task, method, paired)
    optimizer = make_optimizer(model, job)
    log.info("%s: %s samples, %d anchors", name, {k: len(v) for k, v in data.items()}, len(anchors.slots))
    initial = snapshot(model, optimizer)
    rest = (task, method, model, spec, optimizer, initial, bridge)
    return Site(name, config, job, modality, tokenizer, data, anchors, heldout, *rest)


def reopen(name: str, config: SiteConfig, job: JobConfig, task: Task) -> Site:
    """A site for use after its training: as :func:`open_site`, without data to train on.

    The site's data are read only where its tokenizer depends on them.

    Raises:
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    modality = modalities.load(config.modality)
    train = OnDemand(lambda: split_samples(name, read_samples(config, modality), config.concepts)["train"])
    tokenizer = make_tokenizer(config.tokenizer, modality, train, config)
    anchors = _anchor_tokens(name, config, config.anchors, job.anchors, modality, tokenizer)
    method, bridge = method_of(job), reopen_bridge(name, config, modality)
    paired = Tokens(torch.zeros(2, 1, bridge.tokenizer.width), torch.ones(2, 1).bool()) if bridge else None
    model, spec = _build_model(name, config, job, anchors.tokens, task, method, paired)
    optimizer = make_optimizer(model, job)
    rest = (task, method, model, spec, optimizer, {}, bridge)
    return Site(name, config, job, modality, tokenizer, {}, anchors, None, *rest)


def _labelled(
    modality: Modality, tokenizer: Tokenizer, samples: Sequence[Sample], task: Task, config: SiteConfig
) -> LabelledTokens:
    tokens = tokens_of(modality, tokenizer, [s.content for s in samples], config)
    return LabelledTokens(
        tokens=tokens, targets=task.targets(samples, tokenizer), concepts=tuple(s.concept for s in samples)
    )


def find_anchors(name: str, config: SiteConfig, folder: str, pin: AnchorPin | None, modality: str) -> AnchorSet:
    """An anchor set of a site, verified against its manifest and, when a job names one, against its pin.

    Raises:
        AnchorError: it is damaged, another one than the job's, or has too few slots of this modality.
    """
    anchors = load_anchors(locate(folder, Path(config.cache).expanduser()))
    if pin is not None:
        anchors.require(pin.sha256)
    if len(anchors.covered(modality)) < 4:
        raise AnchorError(
            f"{len(anchors.covered(modality))} slots for modality {modality!r}",
            where=f"{name}: {folder}",
            expected="at least 4",
            remedy="add anchors of this modality to the set",
        )
    return anchors


def require_heldout(name: str, config: SiteConfig) -> str:
    """The folder of the held-out anchors, for a job that has some.

    Raises:
        ConfigError: the site file names none.
    """
    if config.heldout is None:
        raise ConfigError("no held-out anchors", where=f"{name}: heldout", remedy="name their folder")
    return config.heldout


def _anchor_tokens(
    name: str, config: SiteConfig, folder: str, pin: AnchorPin, modality: Modality, tokenizer: Tokenizer
) -> AnchorTokens:
    anchors = find_anchors(name, config, folder, pin, modality.name)
    tokens = tokens_of(modality, tokenizer, anchors.contents(modality), config)
    there = tokens.to(choose_device(config.device))  # once: every step needs all of them
    return AnchorTokens(slots=anchors.covered(modality.name), tokens=there, sha256=anchors.manifest_sha256)


def require_common_concept(name: str, trained: Sequence[str], anchors: AnchorSet, modality: str) -> None:
    """Raises AnchorError unless the site trains on at least one concept that its modality's anchors have.

    A site whose data name no concepts trains all the same; nothing across modalities can be asked by its labels.
    """
    if trained and not set(trained) & set(anchors.concepts(modality)):
        raise AnchorError(
            f"none of the site's concepts {list(trained)} is among the anchors'",
            where=name,
            expected=", ".join(anchors.concepts(modality)),
            remedy="label the data with the anchors' concepts, or choose another anchor set",
        )


def _build_model(
    name: str,
    config: SiteConfig,
    job: JobConfig,
    tokens: Tokens,
    task: Task,
    method: Method,
    paired: Tokens | None,
) -> tuple[SiteModel, ModelSpec]:
    device = choose_device(config.device)
    place = SPLIT if config.device == SPLIT else str(device)
    backbone = load_backbone(job.backbone, config.backbones, config.precision, place)
    base = base_fingerprint(backbone, job.backbone, config.backbones)
    generator = derive_generator(job.seed, name, "local")
    adapter = TokenAdapter(tokens, width(backbone), embedding_scale(backbone), generator)
    head = task.head(hidden_width(backbone), tokens.values.shape[1], generator)
    transformer = lora.attach_update(backbone, job, train_a=method.trains_a)
    if config.gradient_checkpointing:
        recompute_layers(transformer)
    bridge = None
    if paired is not None:
        bridge = TokenAdapter(paired, width(backbone), embedding_scale(backbone), generator).to(device)
    model = SiteModel(adapter.to(device), transformer, head.to(device), bridge).eval()
    return model, ModelSpec(shapes=lora.spec(transformer), backbone=base, width=hidden_width(backbone))
