"""The anchor sets of a site: found, verified, and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch.nn.functional import pad

from fedgram.anchors import AnchorSet, load_anchors
from fedgram.config.job import AnchorPin
from fedgram.config.site import SiteConfig
from fedgram.errors import AnchorError, ConfigError
from fedgram.model.tasks import Task
from fedgram.model.tasks.labels import Classification
from fedgram.records import AnchorTokens, LabelledTokens, Tokens
from fedgram.sites.channel import Channel
from fedgram.sites.device import choose_device


def find_anchors(name: str, folder: str, pin: AnchorPin | None, modality: str) -> AnchorSet:
    """An anchor set of a site, verified against its manifest and, when a job names one, against its pin.

    Raises:
        AnchorError: it is damaged, another one than the job's, or has too few slots of this modality.
    """
    anchors = load_anchors(Path(folder))
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


def are_foreign(anchors: AnchorSet, trained: Sequence[str], modality: str) -> bool:
    """Whether a site trains on concepts of which its modality's anchors have none.

    It trains all the same, and its geometry can be compared; no anchor gives it a label.
    """
    return bool(trained) and not set(trained) & set(anchors.concepts(modality))


def anchor_tokens(anchors: AnchorSet, channel: Channel, config: SiteConfig) -> AnchorTokens:
    """The tokens of the slots that a channel's modality covers, on the site's device: every step needs all."""
    tokens = channel.tokens_of(anchors.contents(channel.modality)).to(choose_device(config.device))
    slots = anchors.covered(channel.modality.name)
    return AnchorTokens(slots=slots, tokens=tokens, sha256=anchors.manifest_sha256)


def labelled_anchors(
    train: LabelledTokens, anchors: AnchorTokens, concepts: Sequence[str], task: Task, named: bool | None = None
) -> LabelledTokens | None:
    """The anchors whose concept is one of the task's classes, as labelled samples.

    None where no anchor is: the task is another one, or its classes are not the concepts.

    Args:
        concepts: of every slot of the anchor set.
        named: whether the classes are the concepts; None to see it from the training samples.
    """
    if not isinstance(task, Classification):
        return None
    if named is None:
        named = [task.classes[target] for target in train.targets.tolist()] == list(train.concepts)
    if not named:
        return None
    known = {row: concepts[slot] for row, slot in enumerate(anchors.slots) if concepts[slot] in task.classes}
    if not known:
        return None
    targets = torch.tensor([task.classes.index(concept) for concept in known.values()], dtype=train.targets.dtype)
    return LabelledTokens(tokens=anchors.tokens[list(known)], targets=targets, concepts=tuple(known.values()))


def with_labelled_anchors(
    train: LabelledTokens, anchors: AnchorTokens, concepts: Sequence[str], task: Task, named: bool | None = None
) -> LabelledTokens:
    """The training samples, followed by the :func:`labelled_anchors`; the samples alone where there are none."""
    known = labelled_anchors(train, anchors, concepts, task, named)
    if known is None:
        return train
    return LabelledTokens(
        tokens=_joined(train.tokens, known.tokens),
        targets=torch.cat([train.targets, known.targets]),
        concepts=(*train.concepts, *known.concepts),
    )


def _joined(first: Tokens, second: Tokens) -> Tokens:
    """Tokens of samples and of more samples, as the first are stored; the shorter ones are padded at the end."""
    values, mask = second.values.to(first.values), second.mask.to(first.mask.device)
    longest = max(first.mask.shape[1], mask.shape[1])
    return Tokens(
        torch.cat([pad(v, (0, 0, 0, longest - v.shape[1])) for v in (first.values, values)]),
        torch.cat([pad(m, (0, longest - m.shape[1])) for m in (first.mask, mask)]),
    )
