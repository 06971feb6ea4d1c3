"""The anchor sets of a site: found, verified, and as tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedgram.anchors import AnchorSet, load_anchors
from fedgram.config.job import AnchorPin
from fedgram.config.site import SiteConfig
from fedgram.errors import AnchorError, ConfigError
from fedgram.records import AnchorTokens
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


def require_common_concept(name: str, trained: Sequence[str], anchors: AnchorSet, modality: str) -> None:
    """Raise AnchorError unless the site trains on at least one concept that its modality's anchors have.

    A site whose data name no concepts trains all the same; nothing across modalities can be asked by its labels.
    """
    if trained and not set(trained) & set(anchors.concepts(modality)):
        raise AnchorError(
            f"none of the site's concepts {list(trained)} is among the anchors'",
            where=name,
            expected=", ".join(anchors.concepts(modality)),
            remedy="label the data with the anchors' concepts, or choose another anchor set",
        )


def anchor_tokens(anchors: AnchorSet, channel: Channel, config: SiteConfig) -> AnchorTokens:
    """The tokens of the slots that a channel's modality covers, on the site's device: every step needs all."""
    tokens = channel.tokens_of(anchors.contents(channel.modality)).to(choose_device(config.device))
    slots = anchors.covered(channel.modality.name)
    return AnchorTokens(slots=slots, tokens=tokens, sha256=anchors.manifest_sha256)
