"""A site with a unified model, which answers questions about pictures and makes pictures from words."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import torch
from torch import Tensor

from fedgram.config.job import AnchorPin, JobConfig
from fedgram.config.site import UNIFIED, SiteConfig
from fedgram.data.prompts import Prompt, read_prompts
from fedgram.demo.names import resolve
from fedgram.errors import ConfigError
from fedgram.methods import Method, method_of
from fedgram.methods.base import TaskLoss
from fedgram.modalities.image import MODALITY as IMAGE
from fedgram.model import card, lora
from fedgram.model.attaching import attach_update
from fedgram.model.backbone import base_fingerprint
from fedgram.model.recompute import recompute_layers
from fedgram.model.site_model import hidden_width
from fedgram.model.unified.loading import load_unified
from fedgram.model.unified.site_model import EVALUATION_BATCH, UnifiedSiteModel
from fedgram.records import AnchorTokens, ModelSpec
from fedgram.scoring.geneval.exact import ExactDetector
from fedgram.scoring.geneval.open_vocabulary import OpenVocabularyDetector
from fedgram.scoring.geneval.rules import Detector, score
from fedgram.scoring.vqa_score import soft_accuracy
from fedgram.sites.anchored import find_anchors, require_heldout
from fedgram.sites.base import derive_generator, shuffled
from fedgram.sites.device import choose_device
from fedgram.sites.kept import write_kept
from fedgram.sites.secret import private_generator
from fedgram.sites.seen import in_batches
from fedgram.sites.state import make_optimizer, snapshot
from fedgram.sites.unified_data import UnifiedData, as_tokens, look, read_items, read_rehearsal, split_items

log = logging.getLogger("fedgram.site")

_VALIDATED = 64  # questions and captions that are looked at after every round, at most


@dataclass(frozen=True)
class Kind:
    """The name that a unified site gives its modality; its anchors are those of images."""

    name: str


@dataclass(frozen=True)
class UnifiedBatch:
    """The samples of one step of a unified site.

    Attributes:
        asked, told, rehearsed: rows of questions, of captions and of public captions, (N,) int64 each.
        draws: of dropped prompts, noise and times; the same generator over a round.
    """

    asked: Tensor
    told: Tensor
    draws: torch.Generator
    rehearsed: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))


@dataclass(frozen=True)
class UnifiedSite:
    """A :class:`~fedgram.sites.base.Site` with a unified model.

    Attributes:
        data: questions and captions by split.
        rehearsal: public captions of what the base can do, learnt beside the site's own.
        prompts: of GenEval, for the evaluation; empty where the site file names none.
        detector: looks at the pictures made from them.
        anchors, heldout: public pictures as the model sees them.
    """

    name: str
    config: SiteConfig
    job: JobConfig
    data: Mapping[str, UnifiedData]
    rehearsal: UnifiedData
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
        """The kind of site; its name stands where that of a modality does."""
        return Kind(UNIFIED)

    @property
    def groups(self) -> Mapping[str, str]:
        """A unified site has nothing of its own to share."""
        return {}

    @property
    def guarantee(self) -> None:
        """A unified site promises no differential privacy: its file may not ask for it."""
        return

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return next(self.model.unified.head.parameters()).device

    def batches(self, round: int, steps: int) -> Iterator[UnifiedBatch]:
        """Rows of shuffled questions, captions and public captions, a batch of each at once."""
        items, size = self.data["train"].items, self.job.training.batch_size

        def generator(what: str) -> torch.Generator:
            return private_generator(self.name, self.config, self.job, what, round)

        asked = shuffled(len(items.questions), size, generator("questions"))
        told = shuffled(len(items.captions), size, generator("captions"))
        rehearsed = shuffled(len(self.rehearsal), size, generator("rehearsal"))
        draws = generator("draws")
        for _ in range(steps):
            yield UnifiedBatch(next(asked), next(told), draws, next(rehearsed))

    def task_loss(self, batch: UnifiedBatch) -> TaskLoss:
        """The loss of understanding, and ``generation_weight`` times those of generation and of rehearsal."""
        settings, terms = self.config.require_unified(), self.losses("train", batch)
        weight = settings.generation_weight
        weighted = [term if name == "understanding_loss" else weight * term for name, term in terms.items()]
        if len(batch.rehearsed):
            making, drift = self._rehearsal_losses(batch)
            weighted.append(weight * (making + settings.drift_weight * drift))
        return TaskLoss(torch.stack(weighted).sum())

    def validation_loss(self) -> None:
        """A unified site chooses no round: to answer and draw after each would cost more than the training."""

    def pair_loss(self, batch: UnifiedBatch) -> Tensor | None:
        """A unified site has no pairs of modalities beside its one model."""
        return None

    def losses(self, split: str, batch: UnifiedBatch) -> dict[str, Tensor]:
        """The mean loss of each task over a batch of it, where there is a batch."""
        found, model, data = {}, self.model.unified, self.data[split]
        if len(batch.asked):
            questions = [data.items.questions[i] for i in batch.asked.tolist()]
            seen = data.take(batch.asked).values.to(self.device)
            texts, answers = [q.text for q in questions], [q.answer for q in questions]
            found["understanding_loss"] = model.understanding_loss(seen, texts, answers)
        if len(batch.told):
            found["generation_loss"] = self._making_loss(data, batch.told, batch.draws)
        return found

    def _making_loss(self, data: UnifiedData, told: Tensor, draws: torch.Generator) -> Tensor:
        return self.model.unified.generation_loss(*self._captions(data, told), draws)

    def _rehearsal_losses(self, batch: UnifiedBatch) -> tuple[Tensor, Tensor]:
        told = self._captions(self.rehearsal, batch.rehearsed)
        return self.model.unified.rehearsal_losses(*told, batch.draws, self.model.untrained)

    def _captions(self, data: UnifiedData, rows: Tensor) -> tuple[list[str], Tensor]:
        """The words of some captions, and what their pictures are to be made as."""
        return [data.items.captions[i].text for i in rows.tolist()], data.targets[rows].to(self.device)

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """Losses and soft accuracy on a split; on ``test`` also GenEval, where the site has prompts.

        After every round at most 64 questions and 64 captions are looked at.
        """
        items, limit = self.data[split].items, None if split == "test" else _VALIDATED
        draws = derive_generator(self.job.seed, self.name, "evaluation")
        asked = torch.arange(len(items.questions))[:limit]
        told = torch.arange(len(items.captions))[:limit]
        sums: dict[str, float] = defaultdict(float)
        for part in asked.split(EVALUATION_BATCH) if len(asked) else ():
            terms = self.losses(split, UnifiedBatch(part, told[:0], draws))
            sums["understanding_loss"] += terms["understanding_loss"].item() * len(part)
            sums["vqa_accuracy"] += len(part) * self._soft_accuracy(split, part)
        for part in told.split(EVALUATION_BATCH) if len(told) else ():
            terms = self.losses(split, UnifiedBatch(asked[:0], part, draws))
            sums["generation_loss"] += terms["generation_loss"].item() * len(part)
        found = {k: v / len(told if k == "generation_loss" else asked) for k, v in sums.items()}
        return found | (self._geneval() if split == "test" and self.prompts else {})

    def _soft_accuracy(self, split: str, asked: Tensor) -> float:
        data = self.data[split]
        questions = [data.items.questions[i] for i in asked.tolist()]
        seen = data.take(asked).values.to(self.device)
        given = self.model.unified.understand(seen, [q.text for q in questions])
        return fmean(soft_accuracy(answer, q.answers) for answer, q in zip(given, questions, strict=True))

    def _geneval(self) -> dict[str, float]:
        """GenEval's scores; the draws are the same at every site, so that only the model differs."""
        draws, images = derive_generator(self.job.seed, "geneval"), []
        for i in range(0, len(self.prompts), EVALUATION_BATCH):
            images += self.model.unified.generate([p.text for p in self.prompts[i : i + EVALUATION_BATCH]], draws)
        found = score(self.prompts, images, self.detector)
        return {"geneval" if skill == "overall" else f"geneval_{skill}": share for skill, share in found.items()}

    def floors(self) -> dict[str, float]:
        """A unified site has none: without its model there is no answer and no picture."""
        return {}

    def save(self, folder: Path, metrics: Mapping[str, float], *, home: bool = False) -> None:
        """Write the model as it is now; the site has nothing of its own but the update."""
        write_kept(self, folder, {})
        card.write_site_card(
            folder / "adapter",
            job=self.job,
            backbone=self.spec.backbone,
            modality=self.modality.name,
            task="answering questions about pictures, and making pictures",
            counts={split: len(data) for split, data in self.data.items()},
            classes=(),
            metrics=metrics,
        )


def open_unified(name: str, config: SiteConfig, job: JobConfig) -> UnifiedSite:
    """Read, look and build; every error that can be known before training is raised here.

    Raises:
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    method = method_of(job)
    if method.needs_labels:
        raise ConfigError(f"method {job.method.name!r}", where=name, expected="one that needs no labelled samples")
    here = resolve(config)
    parts, prompts = split_items(read_items(here)), here.require_unified().prompts
    wanted = read_prompts(Path(prompts)) if prompts is not None else []
    detector = make_detector(config)
    model, spec = build_unified(config, job, method)

    def seen(folder: str, pin: AnchorPin) -> AnchorTokens:
        anchors = find_anchors(name, folder, pin, IMAGE.name)
        contents = anchors.contents(IMAGE)  # pyrefly: ignore[bad-argument-type]  # nobody sets its methods
        pictures = in_batches(model.unified.see, contents)
        slots = anchors.covered(IMAGE.name)
        return AnchorTokens(slots=slots, tokens=as_tokens(pictures), sha256=anchors.manifest_sha256)

    anchors = seen(here.anchors, job.anchors)
    heldout = None if job.heldout is None else seen(require_heldout(name, here), job.heldout)
    cache = Path(here.cache)
    data = {part: look(items, model.unified, cache) for part, items in parts.items()}
    log.info("%s: %s samples, %d anchors", name, {k: len(v) for k, v in data.items()}, len(anchors.slots))
    optimizer = make_optimizer(model, job)
    return UnifiedSite(
        name=name,
        config=config,
        job=job,
        data=data,
        rehearsal=look(read_rehearsal(here), model.unified, cache),
        prompts=wanted,
        detector=detector,
        anchors=anchors,
        heldout=heldout,
        method=method,
        model=model,
        spec=spec,
        optimizer=optimizer,
        initial=snapshot(model, optimizer),
    )


def make_detector(config: SiteConfig) -> Detector:
    """Make the detector that looks at a site's pictures: of rendered scenes, or of photographs.

    Raises:
        BackboneError: an open-vocabulary detector that cannot be loaded.
    """
    settings = config.require_unified()
    if settings.detector is None:
        return ExactDetector()
    return OpenVocabularyDetector(settings.detector, settings.colours, device=str(choose_device(config.device)))


def build_unified(config: SiteConfig, job: JobConfig, method: Method) -> tuple[UnifiedSiteModel, ModelSpec]:
    """Put adapters on the tower of the job's unified model, where the site computes.

    Raises:
        BackboneError, ConfigError: it cannot be loaded, or the device is not there.
    """
    unified = load_unified(job.backbone, config.backbones, config.precision, str(choose_device(config.device)))
    base = base_fingerprint(unified.tower, job.backbone, config.backbones)
    width = hidden_width(unified.tower)
    transformer = attach_update(unified.tower, job, train_a=method.trains_a)
    if config.gradient_checkpointing:
        recompute_layers(transformer)
    model = UnifiedSiteModel(unified, transformer)
    return model, ModelSpec(shapes=lora.spec(transformer), backbone=base, width=width)
