"""Anchors drawn from the same source as a modality's data: whole groups, which no site has then."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedgram.anchors.build import csv_bytes
from fedgram.anchors.writing import NewFile, NewSlot, write_anchors

from research.evidence.federations.items import Item, ranked
from research.evidence.federations.once import digest, once

PARTS = ("train", "heldout")
_KEPT = 2  # groups of a concept that stay at the sites: one to train on, one to be tested on

ByConcept = Mapping[str, Sequence[Item]]


@dataclass(frozen=True)
class Drawn:
    """The anchors that are drawn from one modality, and the rest.

    Attributes:
        anchors: by part, then by concept.
        rest: the items of all other groups.
    """

    anchors: Mapping[str, ByConcept]
    rest: tuple[Item, ...]


def draw(items: Sequence[Item], slots: int) -> Drawn:
    """Draw at most so many anchors of each concept and part, one of a group; small groups first.

    A concept with few groups has fewer anchors or none: two groups always stay.
    """
    anchors: dict[str, dict[str, list[Item]]] = {part: {} for part in PARTS}
    for concept in sorted({i.concept for i in items}):
        groups: dict[str, list[Item]] = defaultdict(list)
        for item in ranked(i for i in items if i.concept == concept):
            groups[item.group].append(item)
        firsts = [own[0] for own in sorted(groups.values(), key=len)]
        spare = max(0, len(firsts) - _KEPT)
        train = min(slots, (spare + 1) // 2)
        anchors["train"][concept] = firsts[:train]
        anchors["heldout"][concept] = firsts[train : train + min(slots, spare // 2)]
    return Drawn(anchors, without(items, anchors))


def without(items: Sequence[Item], anchors: Mapping[str, ByConcept]) -> tuple[Item, ...]:
    """The items whose group is not that of an anchor."""
    used = {i.group for part in anchors.values() for own in part.values() for i in own}
    return tuple(i for i in items if i.group not in used)


def write_drawn(
    folder: Path, name: str, drawn: Mapping[str, Drawn], sources: Mapping[str, tuple[str, str]]
) -> tuple[str, str]:
    """Write both anchor sets below ``folder``; slot j of a concept holds the j-th anchor of each modality.

    Args:
        drawn: by modality.
        sources: licence and source of each modality.

    Returns:
        The two folders.
    """
    written = []
    for part in PARTS:
        slots = _slots({kind: own.anchors[part] for kind, own in drawn.items()}, sources)
        set_name = f"{name}-{part}"
        target = folder / "anchors" / f"{set_name}-{digest(slots)}"
        once(target, lambda fresh, n=set_name, s=slots: write_anchors(fresh, n, s, {}))
        written.append(str(target))
    return written[0], written[1]


def _slots(anchors: Mapping[str, ByConcept], sources: Mapping[str, tuple[str, str]]) -> list[NewSlot]:
    slots = []
    for concept in sorted({concept for own in anchors.values() for concept in own}):
        for number in range(max(len(own.get(concept, ())) for own in anchors.values())):
            files = {
                kind: _file(kind, own[concept][number], sources[kind])
                for kind, own in anchors.items()
                if number < len(own.get(concept, ()))
            }
            slots.append(NewSlot(f"{concept}-{number + 1}", concept, files))
    return slots


_WRITTEN: dict[str, tuple[str, Callable[[Item], bytes]]] = {
    "image": (".png", lambda item: item.content),
    "text": (".txt", lambda item: f"{item.content}\n".encode()),
    "genomics": (".fasta", lambda item: f">{item.id}\n{item.content}\n".encode()),
    "tabular": (".csv", lambda item: csv_bytes(item.content, item.content.values())),
}


def _file(kind: str, item: Item, source: tuple[str, str]) -> NewFile:
    suffix, content = _WRITTEN[kind]
    licence, origin = source
    return NewFile(content(item), suffix, "real", licence, f"{origin}: {item.id}")
