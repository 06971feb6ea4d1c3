"""Labelled items from the sources of a federation, and the pool of one modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, TypeVar

from fedgram.config.job import BackboneConfig
from fedgram.records import Sample

T = TypeVar("T", bound="Item | Sample")


@dataclass(frozen=True)
class Item:
    """One labelled item before it is given to a site.

    Attributes:
        id: unique in its pool, without blanks or slashes.
        concept: its class.
        group: what must not be on two sites nor on two sides of a split (species, patient, language).
        content: PNG bytes, a text, a sequence, or the cells of a row by column.
    """

    id: str
    concept: str
    group: str
    content: Any


@dataclass(frozen=True)
class Pool:
    """Everything that the sites of one modality have together.

    Attributes:
        kind: the modality as anchor manifests call it.
        modality: as a site file calls it.
        tokenizer: as a site file calls it.
        items: disjoint by group from all anchors of this modality.
        unseen: concepts whose labels no site of this modality trains on; their samples are there to be named by
            others.
    """

    kind: str
    modality: str
    tokenizer: str
    items: tuple[Item, ...]
    unseen: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Source:
    """Data of a federation before sites are made of them.

    Attributes:
        pools: one a modality; of things that several see, one for each way of seeing them.
        anchors: folders of the training and of the held-out anchors.
        backbone: the shared transformer.
        backbones: folder by name, for a backbone of the federation's own.
        things: whether a group is the same thing in every pool.
        fine: the fine class of each group, where it is known.
    """

    pools: tuple[Pool, ...]
    anchors: tuple[str, str]
    backbone: BackboneConfig
    backbones: Mapping[str, str] = field(default_factory=dict)
    things: bool = False
    fine: Mapping[str, str] = field(default_factory=dict)


def ranked(items: Iterable[T]) -> list[T]:
    """The items in an order that depends on nothing but their ids."""
    return sorted(items, key=lambda item: sha256(f"evidence|{item.id}".encode()).digest())
