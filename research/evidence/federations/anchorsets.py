"""Anchor sets that are changed on purpose, to learn what methods make of bad, few, missing or made anchors.

Every function writes a new set that trains below ``folder`` and gives the federation that uses it; the held-out
anchors, which only measure, stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from fedgram.anchors import AnchorSet, load_anchors
from fedgram.anchors.writing import NewFile, NewSlot, slots_of, write_anchors
from fedgram.demo.names import locate
from fedgram.errors import AnchorError

from research.evidence.federations import Federation
from research.evidence.federations.assemble import pin
from research.evidence.federations.once import digest, once


def training_anchors(federation: Federation) -> AnchorSet:
    """The anchor set that trains, which every site of the federation has."""
    config = next(iter(federation.sites.values()))
    return load_anchors(locate(config.anchors, Path(config.cache)))


def with_anchors(federation: Federation, folder: Path, broken: str) -> Federation:
    """A federation on another set of training anchors."""
    sites = {name: replace(config, anchors=str(folder)) for name, config in federation.sites.items()}
    return replace(federation, name=f"{federation.name}, {broken}", sites=sites, anchors=pin(folder))


def shuffle_anchors(federation: Federation, folder: Path, seed: int) -> Federation:
    """A federation whose anchors are dealt anew to the slots, each modality by itself: no slot has one concept."""

    def change(slots: list[NewSlot]) -> list[NewSlot]:
        for kind in _kinds(slots):
            filled = [i for i, slot in enumerate(slots) if kind in slot.files]
            order = np.random.default_rng(_seed(seed, kind)).permutation(len(filled))
            slots = _moved(slots, kind, {filled[i]: filled[order[i]] for i in range(len(filled))})
        return slots

    return _changed(federation, folder, f"shuffled anchors {seed}", change)


def misplace_anchors(federation: Federation, folder: Path, kind: str) -> Federation:
    """A federation in which one modality's anchors are moved to the slots of the next concept that it has."""

    def change(slots: list[NewSlot]) -> list[NewSlot]:
        filled = [i for i, slot in enumerate(slots) if kind in slot.files]
        step = sum(slots[i].concept == slots[filled[0]].concept for i in filled)
        return _moved(slots, kind, dict(zip(filled, filled[step:] + filled[:step], strict=True)))

    return _changed(federation, folder, f"wrong concept {kind} anchors", change)


def fewer_anchors(federation: Federation, folder: Path, slots: int) -> Federation:
    """A federation with so many anchor slots, taken from the concepts in turn.

    Raises:
        AnchorError: more than there are, or so few that a modality is left with less than 4.
    """
    return _changed(federation, folder, f"{slots} anchors", lambda found: _first(found, slots))


def halved_anchors(federation: Federation, folder: Path) -> Federation:
    """A federation to choose settings on: every other training anchor measures, and no held-out anchor is there.

    Raises:
        AnchorError: a modality is left with fewer than 4 slots.
    """
    # Of each concept every other slot, counting those first that most modalities fill: both halves get their part.
    slots = sorted(slots_of(training_anchors(federation)), key=lambda slot: (slot.concept, -len(slot.files)))
    chosen = {slot.id for slot in slots[::2]}
    train = _changed(federation, folder, "half", lambda found: [s for s in found if s.id in chosen])
    measure = _changed(federation, folder, "other half", lambda found: [s for s in found if s.id not in chosen])
    named = {name: next(iter(measure.sites.values())).anchors for name in federation.sites}
    sites = {name: replace(config, heldout=named[name]) for name, config in train.sites.items()}
    return replace(train, name=federation.name, sites=sites, heldout=measure.anchors)


def partial_anchors(federation: Federation, folder: Path) -> Federation:
    """A federation whose modalities lack the anchors of one concept each, of another one where possible."""

    def change(slots: list[NewSlot]) -> list[NewSlot]:
        concepts = sorted({slot.concept for slot in slots})
        for number, kind in enumerate(_kinds(slots)):
            lost = concepts[number % len(concepts)]
            slots = [_without(slot, kind) if slot.concept == lost else slot for slot in slots]
        return slots

    return _changed(federation, folder, "partial anchors", change)


def replace_files(
    federation: Federation,
    folder: Path,
    broken: str,
    kind: str,
    make: Callable[[AnchorSet], Mapping[str, NewFile]],
) -> Federation:
    """A federation with new anchor files of one modality, by slot; a slot without a new one is left empty."""
    made = make(training_anchors(federation))

    def change(slots: list[NewSlot]) -> list[NewSlot]:
        bare = [_without(slot, kind) for slot in slots]
        return [
            replace(slot, files={**slot.files, kind: made[slot.id]}) if slot.id in made else slot for slot in bare
        ]

    return _changed(federation, folder, broken, change)


def _changed(
    federation: Federation, folder: Path, broken: str, change: Callable[[list[NewSlot]], list[NewSlot]]
) -> Federation:
    anchors = training_anchors(federation)
    slots = change(slots_of(anchors))
    name = f"{anchors.name}-{broken.replace(' ', '-')}-{digest(slots)}"
    for kind in _kinds(slots):
        if sum(kind in slot.files for slot in slots) < 4:
            raise AnchorError(f"fewer than 4 {kind} anchors are left", where=broken, remedy="take away fewer")
    written = once(folder / "changed" / name, lambda fresh: write_anchors(fresh, name, slots, {}))
    return with_anchors(federation, written, broken)


def _kinds(slots: Sequence[NewSlot]) -> list[str]:
    return sorted({kind for slot in slots for kind in slot.files})


def _moved(slots: Sequence[NewSlot], kind: str, source: Mapping[int, int]) -> list[NewSlot]:
    """The slots, with one modality's files taken from the slots of these numbers."""
    return [
        replace(slot, files={**slot.files, kind: slots[source[i]].files[kind]}) if i in source else slot
        for i, slot in enumerate(slots)
    ]


def _without(slot: NewSlot, kind: str) -> NewSlot:
    return replace(slot, files={name: file for name, file in slot.files.items() if name != kind})


def _first(slots: Sequence[NewSlot], count: int) -> list[NewSlot]:
    if not 0 < count <= len(slots):
        raise AnchorError(f"{count} slots", where="fewer anchors", expected=f"1 to {len(slots)}")
    turn: dict[str, int] = {}
    seen: dict[str, int] = {}
    for slot in slots:
        turn[slot.id] = seen.get(slot.concept, 0)
        seen[slot.concept] = turn[slot.id] + 1
    kept = {slot.id for slot in sorted(slots, key=lambda slot: turn[slot.id])[:count]}
    return [slot for slot in slots if slot.id in kept]


def _seed(seed: int, kind: str) -> int:
    return int.from_bytes(sha256(f"{seed}|shuffle|{kind}".encode()).digest()[:7], "big")
