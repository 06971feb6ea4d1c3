"""The model of a site of one modality, put together where the site computes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fedgram.config.job import JobConfig
from fedgram.config.site import SPLIT, SiteConfig
from fedgram.methods import Method
from fedgram.model import lora
from fedgram.model.attaching import attach_update
from fedgram.model.backbone import base_fingerprint, load_backbone, positions, require_positions
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import SiteModel, TokenAdapter, embedding_scale, hidden_width, width
from fedgram.model.tasks import Task
from fedgram.records import ModelSpec, Tokens
from fedgram.sites.base import derive_generator
from fedgram.sites.device import choose_device
from fedgram.sites.secret import private_generator


def build_model(
    name: str,
    config: SiteConfig,
    job: JobConfig,
    task: Task,
    method: Method,
    standard: Sequence[Tokens],
    groups: Mapping[str, str],
) -> tuple[SiteModel, ModelSpec]:
    """Put adapters, shared transformer and head together.

    Args:
        standard: of each channel, the tokens whose mean and spread its adapter takes for standard.
        groups: by part: its members draw the same initial weights of it.

    Raises:
        BackboneError, ConfigError: the backbone cannot be loaded or adapted, or the device is not there.
    """
    device = choose_device(config.device)
    place = SPLIT if config.device == SPLIT else str(device)
    backbone = load_backbone(job.backbone, config.backbones, config.precision, place)
    names = [config.tokenizer, *([config.bridge.tokenizer] if config.bridge else [])]
    for tokens, tokenizer in zip(standard, names, strict=True):
        require_positions(positions(backbone), job.backbone, tokens.mask.shape[1], tokenizer)
    base = base_fingerprint(backbone, job.backbone, config.backbones)
    d, scale = width(backbone), embedding_scale(backbone)
    own = private_generator(name, config, job, "local")
    drawn = {part: derive_generator(job.seed, group, part) for part, group in groups.items()}
    first = TokenAdapter(standard[0], d, scale, drawn.get("adapter", own))
    head = task.head(hidden_width(backbone), standard[0].values.shape[1], drawn.get("head", own))
    transformer = attach_update(backbone, job, train_a=method.trains_a)
    if config.gradient_checkpointing:
        recompute_layers(transformer)
    adapters = [first, *(TokenAdapter(tokens, d, scale, own) for tokens in standard[1:])]
    model = SiteModel([adapter.to(device) for adapter in adapters], transformer, head.to(device)).eval()
    return model, ModelSpec(shapes=lora.spec(transformer), backbone=base, width=hidden_width(backbone))
