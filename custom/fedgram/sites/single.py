"""A site of one modality, or of two of the same samples (a bridge site): read, tokenised, built. No FLARE here."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

import torch
from torch import Tensor

from fedgram import modalities
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.core.contrastive import info_nce, pair_recall
from fedgram.demo.names import resolve
from fedgram.errors import ConfigError
from fedgram.files import checksum
from fedgram.methods import Method, method_of
from fedgram.methods.base import TaskLoss
from fedgram.modalities.base import Modality
from fedgram.model import card
from fedgram.model.site_model import EVALUATION_BATCH, SiteModel, masked_mean
from fedgram.model.tasks import Task, make_task, to_facts
from fedgram.records import AnchorTokens, LabelledTokens, ModelSpec, Sample, Tokens
from fedgram.sites.anchored import (
    anchor_tokens,
    are_foreign,
    find_anchors,
    labelled_anchors,
    require_heldout,
    with_labelled_anchors,
)
from fedgram.sites.base import shuffled
from fedgram.sites.building import build_model
from fedgram.sites.channel import Channel, open_channel
from fedgram.sites.groups import groups_of
from fedgram.sites.guarantee import Guarantee, answerable, guarantee_of, public_samples
from fedgram.sites.kept import write_kept
from fedgram.sites.pairs import PairedTokens, open_pairs
from fedgram.sites.samples import concepts_of, labelled, read_samples, split_samples
from fedgram.sites.secret import private_generator
from fedgram.sites.state import make_optimizer, snapshot

log = logging.getLogger("fedgram.site")


@dataclass(frozen=True)
class Batch:
    """The samples of one step, and at a bridge site some pairs.

    Attributes:
        rows: (N,) int64, of the samples in ``data["fit"]``.
        pairs: the tokens of the same samples in both modalities.
    """

    rows: Tensor
    pairs: tuple[Tokens, Tokens] | None = None


@dataclass(frozen=True)
class SingleSite:
    """A :class:`~fedgram.sites.base.Site` of one modality, with a second one beside it at a bridge site.

    Attributes:
        channels: its modalities, one or two. Anchors, Gram matrix, head and weight are those of the first; only
            the contrastive loss knows of the second.
        data: by split; ``fit``, on which the site trains, is ``train`` and the anchors that count as its samples.
        task: what the head does.
        pairs: samples of the first channel in the second, by split; empty without one.
        groups: see :mod:`fedgram.sites.groups`; of the first channel.
        guarantee: the differential privacy of what leaves; None where its file promises none.
    """

    name: str
    config: SiteConfig
    job: JobConfig
    channels: tuple[Channel, ...]
    data: Mapping[str, LabelledTokens]
    pairs: Mapping[str, PairedTokens]
    anchors: AnchorTokens
    heldout: AnchorTokens | None
    task: Task
    method: Method
    model: SiteModel
    spec: ModelSpec
    optimizer: torch.optim.Optimizer
    initial: Mapping[str, Tensor]
    groups: Mapping[str, str]
    guarantee: Guarantee | None = None

    @property
    def modality(self) -> Modality:
        """The modality of the first channel."""
        return self.channels[0].modality

    @property
    def device(self) -> torch.device:
        """The device of everything but the frozen base, which may be spread over several."""
        return next(self.model.head.parameters()).device

    def channel(self, number: int) -> Channel:
        """One of the site's channels.

        Raises:
            ConfigError: the site has fewer.
        """
        if not 0 <= number < len(self.channels):
            raise ConfigError("no second modality", where=self.name, expected="a [bridge] in its site file")
        return self.channels[number]

    def samples(self, split: str) -> list[Sample]:
        """The samples of one split; those of concepts that the site did not train on included."""
        return self._read[split]

    @cached_property
    def _read(self) -> dict[str, list[Sample]]:
        """The samples of the site by split, read when somebody first asks for them, and once."""
        samples = read_samples(resolve(self.config), self.modality)
        return split_samples(self.name, samples, (), apart=self.config.privacy is not None)

    @cached_property
    def data_digest(self) -> str:
        """The sha256 of all that the site trains on: tokens, targets, concepts and groups."""
        data = self.data["fit"]
        tensors = {"values": data.tokens.values, "mask": data.tokens.mask, "targets": data.targets}
        names = [*data.concepts, "", *self.data["train"].groups]
        return sha256(json.dumps([checksum(tensors, {}), names]).encode()).hexdigest()

    def _generator(self, *what: object) -> torch.Generator:
        return private_generator(self.name, self.config, self.job, *what)

    def batches(self, round: int, steps: int) -> Iterator[Batch]:
        """Rows of shuffled batches; at a bridge site with at least two pairs, and none twice in a batch."""
        size = self.job.training.batch_size
        rows = shuffled(len(self.data["fit"]), size, self._generator("batches", round))
        if not self.pairs:
            for _ in range(steps):
                yield Batch(next(rows))
            return
        tokens, pairs = self.data["train"].tokens, self.pairs["train"]
        generator = self._generator("pairs", round)
        chosen = shuffled(len(pairs), max(size, 2), generator, distinct=True)
        for _ in range(steps):
            here, some = next(rows), next(chosen)
            first, second = tokens[pairs.rows[some]].to(self.device), pairs.tokens[some].to(self.device)
            yield Batch(here, (first, second))

    def task_loss(self, batch: Batch) -> TaskLoss:
        """The loss of the head on a batch, with the representations of its samples."""
        tokens = self.data["fit"].tokens[batch.rows].to(self.device)
        hidden = self.model.hidden(tokens)
        output = self.model.head(hidden, tokens.mask)
        loss = self.task.loss(output, self.data["fit"].targets[batch.rows].to(self.device))
        return TaskLoss(loss, masked_mean(hidden, tokens.mask), batch.rows)

    def pair_loss(self, batch: Batch) -> Tensor | None:
        """Symmetric InfoNCE over a batch of pairs; it trains B, m and both adapters, as the task loss does."""
        if batch.pairs is None or self.config.bridge is None:
            return None
        first, second = batch.pairs
        z = self.model.represent(first), self.model.represent(second, channel=1)
        return info_nce(*z, self.config.bridge.temperature)

    @torch.no_grad()
    def evaluate(self, split: str) -> dict[str, float]:
        """The task's metrics on one split, and R@1 between the two modalities of at least two pairs."""
        tokens = self.data[split].tokens
        return self.measure(self.outputs(tokens), split) if len(tokens) else {}

    def measure(self, outputs: Tensor, split: str) -> dict[str, float]:
        """The metrics of :meth:`evaluate` where the answers to a split that is not empty are known."""
        data = self.data[split]
        found = self.task.metrics(outputs, data.targets)
        if self.pairs and len(self.pairs[split]) > 1:  # a single pair finds itself, which says nothing
            pairs = self.pairs[split]
            first = self.model.embed(data.tokens[pairs.rows])
            found |= {"pair_recall": pair_recall(first, self.model.embed(pairs.tokens, channel=1))}
        return found

    def validation_loss(self) -> float | None:
        """The task's loss on the validation split."""
        data = self.data["validation"]
        return self.task.loss(self.outputs(data.tokens), data.targets).item() if len(data) else None

    def floors(self) -> dict[str, float]:
        """The scores of :mod:`fedgram.scoring.floors`."""
        from fedgram.scoring.floors import floors  # with scikit-learn, which a model in use does without

        anchors = labelled_anchors(self.data["train"], self.anchors, self.job.anchors.concepts, self.task)
        return floors(self.task, self.data, anchors)

    @torch.no_grad()
    def outputs(self, tokens: Tokens) -> Tensor:
        """The head's output for many samples, in batches, on the CPU."""
        rows = torch.arange(len(tokens)).split(EVALUATION_BATCH)
        return torch.cat([self.model(tokens[part].to(self.device)).cpu() for part in rows])

    def save(self, folder: Path, metrics: Mapping[str, float], *, home: bool = False) -> None:
        """Write the model as it is now, with the task and the identities of the tokenizers."""
        bound = None if home else self.guarantee
        facts = {"tokenizers": self.token_prints(), "task": to_facts(self.task)}
        facts |= {"privacy": asdict(bound)} if bound else {}
        write_kept(self, folder, facts, [channel.statistics for channel in self.channels])
        card.write_site_card(
            folder / "adapter",
            job=self.job,
            backbone=self.spec.backbone,
            modality=" with pairs in ".join(channel.modality.name for channel in self.channels),
            task=self.config.task,
            counts={split: len(data) for split, data in self.data.items() if split != "fit"},
            classes=getattr(self.task, "classes", ()),
            metrics=metrics,
            guarantee=""
            if bound is None
            else f"B, m, W and the head: {bound}. Not covered: what is kept besides, of home or of frozen tokens.",
        )

    def token_prints(self) -> list[str]:
        """The sha256 of each tokenizer's identity: equal ones give equal tokens."""
        return [sha256(channel.tokenizer.identity.encode()).hexdigest() for channel in self.channels]


def open_single(name: str, config: SiteConfig, job: JobConfig) -> SingleSite:
    """Read, tokenise and build; every error that can be known before training is raised here.

    Raises:
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    here, modality = resolve(config), modalities.load(config.modality)
    private = config.privacy is not None
    parts = split_samples(name, read_samples(here, modality), config.concepts, apart=private)
    chosen = find_anchors(name, here.anchors, job.anchors, modality.name)
    task = make_task(config, parts["train"], chosen.concepts(modality.name))
    if private:
        parts = {split: [*answerable(task, samples)] for split, samples in parts.items()}
    guarantee = guarantee_of(name, config, job, parts["train"])
    if are_foreign(chosen, concepts_of(parts["train"]), modality.name):
        log.warning("%s: none of its concepts is among the anchors'", name)
    fit_on = public_samples(chosen, modality) if private else parts["train"]
    first = open_channel(modality, config.tokenizer, config.window, fit_on, config)
    anchors, heldout = anchor_tokens(chosen, first, config), None
    if job.heldout is not None:
        unseen = find_anchors(name, require_heldout(name, here), job.heldout, modality.name)
        heldout = anchor_tokens(unseen, first, config)
    data = {split: labelled(first, part, task) for split, part in parts.items()}
    second, pairs = open_pairs(name, here, parts) if here.bridge is not None else (None, {})
    log.info("%s: %s samples, %d anchors", name, {k: len(v) for k, v in data.items()}, len(anchors.slots))
    groups = groups_of(config, first, task)
    public = anchors.tokens.to(torch.device("cpu"))  # alike at all members of a group
    data["fit"] = data["train"]
    if job.training.anchor_labels:
        named = config.reading.target == config.columns.concept if private else None
        data["fit"] = with_labelled_anchors(data["train"], anchors, job.anchors.concepts, task, named)
    standard = [public if private or "adapter" in groups else data["fit"].tokens]
    standard += [pairs["train"].tokens] if pairs else []
    method = method_of(job)
    model, spec = build_model(name, config, job, task, method, standard, groups)
    optimizer = make_optimizer(model, job)
    return SingleSite(
        name=name,
        config=config,
        job=job,
        channels=(first,) if second is None else (first, second),
        data=data,
        pairs=pairs,
        anchors=anchors,
        heldout=heldout,
        task=task,
        method=method,
        model=model,
        spec=spec,
        optimizer=optimizer,
        initial=snapshot(model, optimizer),
        groups=groups,
        guarantee=guarantee,
    )


def own_samples(site: SingleSite, split: str) -> LabelledTokens:
    """The samples of a split of the concepts that a site trains on, read from its data."""
    wanted = site.config.concepts
    samples = [s for s in site.samples(split) if not wanted or s.concept in wanted]
    if site.config.privacy is not None:
        samples = [*answerable(site.task, samples)]
    return labelled(site.channel(0), samples, site.task)
