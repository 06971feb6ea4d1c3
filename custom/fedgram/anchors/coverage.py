"""Checks of an anchor set: the concepts it covers, its gaps, and contents that it holds twice."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from itertools import combinations

from fedgram import modalities
from fedgram.anchors import AnchorSet, AnchorSlot
from fedgram.errors import AnchorError, ConfigError
from fedgram.modalities.base import Modality

LEAST_SLOTS = 4  # of a modality, for a debiased CKA


@dataclass(frozen=True)
class Coverage:
    """The number of slots of one concept that one modality fills."""

    real: int
    synthetic: int

    def __str__(self) -> str:
        made = f"{self.synthetic} synthetic" if self.synthetic else ""
        return " + ".join(filter(None, [str(self.real) if self.real else "", made])) or "–"


@dataclass(frozen=True)
class Duplicate:
    """One content of one modality in several slots: pairs of set and slot id, in the order of the sets."""

    modality: str
    places: tuple[tuple[str, str], ...]


def modality_names(anchors: AnchorSet) -> list[str]:
    """Names of the modalities that fill at least one slot."""
    return sorted({modality for slot in anchors.slots for modality in slot.files})


def coverage(anchors: AnchorSet) -> dict[str, dict[str, Coverage]]:
    """Coverage of a set by concept, in the order of the slots, then by modality."""
    concepts = dict.fromkeys(slot.concept for slot in anchors.slots)
    return {
        concept: {
            modality: _count([slot for slot in anchors.slots if slot.concept == concept], modality)
            for modality in modality_names(anchors)
        }
        for concept in concepts
    }


def _count(slots: list[AnchorSlot], modality: str) -> Coverage:
    origins = [slot.files[modality].origin for slot in slots if modality in slot.files]
    return Coverage(origins.count("real"), origins.count("synthetic"))


def shortcomings(anchors: AnchorSet) -> list[str]:
    """The gaps of a set in words: too few slots, and what no two modalities have in common."""
    names, found = modality_names(anchors), []
    covered = {name: set(anchors.covered(name)) for name in names}
    for name, slots in covered.items():
        if len(slots) < LEAST_SLOTS:
            found.append(f"{name}: {len(slots)} slots; a site of this modality needs at least {LEAST_SLOTS}")
    for one, other in combinations(names, 2):
        if len(covered[one] & covered[other]) < 2:
            found.append(f"{one} and {other}: fewer than 2 slots in common; they cannot be compared")
    for concept, by_modality in coverage(anchors).items():
        having = [name for name, count in by_modality.items() if count.real + count.synthetic]
        if len(having) < 2:
            found.append(f"{concept}: only {having[0] if having else 'no modality'} has it; nobody to agree with")
    return found


def duplicates(sets: Mapping[str, AnchorSet], kinds: Mapping[str, Modality]) -> list[Duplicate]:
    """Contents that are in more than one slot of one modality, within a set or across the given ones.

    Compared is what a modality reads, so that a sequence with another header or a row with other blanks is the
    same; files of a modality that is not given are compared byte by byte. A patient or species on both sides
    is not seen: that is for whoever chooses the files.
    """
    places: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for label, anchors in sets.items():
        for slot in anchors.slots:
            for name in slot.files:
                places[name, _print(anchors, slot, name, kinds.get(name))].append((label, slot.id))
    return [Duplicate(name, tuple(found)) for (name, _), found in places.items() if len(found) > 1]


def _print(anchors: AnchorSet, slot: AnchorSlot, name: str, modality: Modality | None) -> str:
    file = slot.files[name]
    if modality is None:
        return file.sha256
    return sha256(modality.fingerprint(modality.read_anchor(anchors.folder / file.path))).hexdigest()


def find_modality(name: str, declared: Sequence[str] = ()) -> Modality:
    """Find the modality that anchor manifests call ``name``: a declared one or a built-in one.

    Raises:
        AnchorError: none has this name.
        ConfigError: a declared modality that cannot be imported.
    """
    for modality in map(modalities.load, declared):
        if modality.name == name:
            return modality
    try:
        return modalities.load(name)
    except ConfigError as error:
        raise AnchorError(
            f"unknown modality {name!r}",
            where=name,
            expected=error.expected,
            remedy="name the folder after a modality, or declare it with --modality package.module:attribute",
        ) from error


def known_modalities(sets: Iterable[AnchorSet], declared: Sequence[str] = ()) -> dict[str, Modality]:
    """Modalities of some sets by name, without those that are neither built in nor declared.

    Raises:
        ConfigError: a declared modality that cannot be imported.
    """
    found = {}
    for name in {name for anchors in sets for name in modality_names(anchors)}:
        with suppress(AnchorError):
            found[name] = find_modality(name, declared)
    return found
