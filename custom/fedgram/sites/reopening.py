"""A site of one modality, or of two, opened for use after its training: no data are needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from fedgram import modalities
from fedgram.config.job import JobConfig
from fedgram.config.site import SiteConfig
from fedgram.demo.names import resolve
from fedgram.errors import CheckpointError, FedgramError
from fedgram.methods import method_of
from fedgram.model.tasks import Task
from fedgram.records import Sample, Tokens
from fedgram.sites.anchored import anchor_tokens, find_anchors
from fedgram.sites.building import build_model
from fedgram.sites.channel import OnDemand, open_channel
from fedgram.sites.guarantee import public_samples
from fedgram.sites.pairs import read_pairs
from fedgram.sites.samples import read_samples, split_samples
from fedgram.sites.single import SingleSite
from fedgram.sites.state import make_optimizer


def reopen_single(
    name: str, config: SiteConfig, job: JobConfig, task: Task, statistics: Sequence[Mapping[str, Any] | None]
) -> SingleSite:
    """Open a site for use after its training: as :func:`open_single`, without data to train on.

    Args:
        statistics: of the training samples, by tokenizer; where one has none and looks at the samples, they are
            read again.

    Raises:
        CheckpointError: they have to be read, and cannot be.
        ConfigError, DataError, AnchorError, BackboneError: see the part that is wrong.
    """
    here, modality = resolve(config), modalities.load(config.modality)
    private = config.privacy is not None
    chosen = find_anchors(name, here.anchors, job.anchors, modality.name)

    @cache  # both tokenizers may ask for them
    def parts() -> dict[str, list[Sample]]:
        try:
            return split_samples(name, read_samples(here, modality), config.concepts, apart=private)
        except (FedgramError, OSError) as error:
            raise CheckpointError(
                f"its tokenizer reads the training data again, and cannot ({error})",
                where=name,
                remedy="put the data back; other tokenizers keep what they need of them in the result",
            ) from error

    def paired() -> list[Sample]:
        return [pair.sample for pair in read_pairs(name, here, parts())["train"]]

    trained = OnDemand(lambda: public_samples(chosen, modality) if private else parts()["train"])
    channels = [open_channel(modality, config.tokenizer, config.window, trained, config, statistics[0])]
    anchors = anchor_tokens(chosen, channels[0], config)
    standard = [anchors.tokens]  # of the right width: the constants come from the result
    if (bridge := here.bridge) is not None:
        second = modalities.load(bridge.modality)
        seen = OnDemand(paired)
        channels.append(open_channel(second, bridge.tokenizer, bridge.window, seen, config, statistics[1]))
        standard.append(Tokens(torch.zeros(2, 1, channels[1].tokenizer.width), torch.ones(2, 1).bool()))
    method = method_of(job)
    model, spec = build_model(name, config, job, task, method, standard, {})
    return SingleSite(
        name=name,
        config=config,
        job=job,
        channels=tuple(channels),
        data={},
        pairs={},
        anchors=anchors,
        heldout=None,
        task=task,
        method=method,
        model=model,
        spec=spec,
        optimizer=make_optimizer(model, job),
        initial={},
        groups={},
    )
