"""Opens a site with a unified model. Importing this is what makes such sites train and keep their results."""

from __future__ import annotations

import logging
from pathlib import Path

import torch

from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.data.prompts import read_prompts
from fedgram.demo.fedumm import locate
from fedgram.errors import ConfigError
from fedgram.methods import method_of, require_allowed
from fedgram.modalities.image import MODALITY as IMAGE
from fedgram.model.unified.base import UnifiedModel
from fedgram.records import AnchorTokens
from fedgram.results import unified as result  # noqa: F401 - they say how unified sites train and what they keep
from fedgram.scoring.geneval.exact import ExactDetector
from fedgram.scoring.geneval.open_vocabulary import OpenVocabularyDetector
from fedgram.scoring.geneval.rules import Detector
from fedgram.sites import unified_rounds as rounds  # noqa: F401 - they say how unified sites train and what they keep
from fedgram.sites.single import find_anchors, require_heldout
from fedgram.sites.state import make_optimizer, snapshot
from fedgram.sites.tokens import choose_device
from fedgram.sites.unified import UnifiedSite, build_model
from fedgram.sites.unified_data import as_tokens, in_batches, look, read_items, split_items

log = logging.getLogger("fedgram.site")


def open_unified_site(name: str, config: SiteConfig, job: JobConfig) -> UnifiedSite:
    """Read, look and build: every error that can be known before training is raised here.

    Raises:
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    require_allowed(name, config, job)
    method = method_of(job)
    if method.needs_labels:
        raise ConfigError(f"method {job.method.name!r}", where=name, expected="one that needs no labelled samples")
    if config.threads:
        torch.set_num_threads(config.threads)
    parts = split_items(read_items(config))
    file = config.require_unified().prompts
    prompts = read_prompts(locate(file, Path(config.cache).expanduser())) if file is not None else []
    detector = make_detector(config)
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


def _anchors(
    name: str, config: SiteConfig, folder: str, job: JobConfig, model: UnifiedModel, *, held_out: bool = False
) -> AnchorTokens:
    pin = job.heldout if held_out else job.anchors
    anchors = find_anchors(name, config, folder, pin, IMAGE.name)
    seen = in_batches(model.see, anchors.contents(IMAGE))
    return AnchorTokens(slots=anchors.covered(IMAGE.name), tokens=as_tokens(seen), sha256=anchors.manifest_sha256)
