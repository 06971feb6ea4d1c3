"""Synthetic anchors: a generator fills the slots that a modality leaves empty, and each is marked as synthetic.

A gap may also stay: partial coverage is the honest alternative. What was made is a stand-in for public samples,
never for a site's data, and nothing here may be fitted on those.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedgram.anchors import AnchorSet
from fedgram.anchors.coverage import find_modality, known_modalities
from fedgram.anchors.writing import NewFile, slots_of, write_anchors
from fedgram.errors import AnchorError
from fedgram.modalities.base import Modality

_ATTEMPTS = 20  # a small model or table may give the same anchor again


@dataclass(frozen=True)
class Generator:
    """A source of synthetic anchors of one modality.

    Attributes:
        modality: by name.
        suffix: of the files.
        made: how, for the manifest: kind, model, what was fitted on; the seed is added.
        draw: contents of new anchors for a concept, one for each seed; the same seeds give the same contents.
            Raises AnchorError when it cannot.
    """

    modality: str
    suffix: str
    made: Mapping[str, Any]
    draw: Callable[[str, Sequence[int]], list[bytes]]


def slot_seed(seed: int, modality: str, slot: str, attempt: int) -> int:
    """The seed of one slot, which does not depend on which other slots are empty."""
    return int.from_bytes(sha256(f"{seed}|{modality}|{slot}|{attempt}".encode()).digest()[:7], "big")


def empty_slots(anchors: AnchorSet, modality: str, concepts: Sequence[str] = ()) -> dict[str, list[str]]:
    """Ids of the slots that a modality leaves empty, by concept.

    Args:
        concepts: only these; all when empty.

    Raises:
        AnchorError: an unknown concept, or no slot is empty.
    """
    known = {slot.concept for slot in anchors.slots}
    unknown = sorted(set(concepts) - known)
    if unknown:
        raise AnchorError(f"no concept {unknown[0]!r}", where=anchors.folder, expected=", ".join(sorted(known)))
    gaps: dict[str, list[str]] = {}
    for slot in anchors.slots:
        if modality not in slot.files and slot.concept in (set(concepts) or known):
            gaps.setdefault(slot.concept, []).append(slot.id)
    if not gaps:
        raise AnchorError(f"no empty {modality} slot", where=anchors.folder, remedy="there is nothing to fill")
    return gaps


def fill(
    anchors: AnchorSet,
    out: Path,
    generator: Generator,
    *,
    licence: str,
    seed: int,
    concepts: Sequence[str] = (),
) -> AnchorSet:
    """Write a copy of a set in which one modality's empty slots hold synthetic anchors.

    Args:
        anchors: stays as it is.
        out: folder of the new set.
        licence: of what is made.
        concepts: fill slots of these only; all when empty.

    Raises:
        AnchorError: nothing is empty, or the generator cannot make enough different anchors.
    """
    name = generator.modality
    kind = find_modality(name)
    kinds = {**known_modalities([anchors]), name: kind}
    taken = {kind.fingerprint(content) for content in anchors.contents(kind)}
    made: dict[str, bytes] = {}
    for concept, slots in empty_slots(anchors, name, concepts).items():
        made |= _draw_new(generator, kind, concept, slots, seed, taken)
    origin = ("synthetic", licence, f"synthetic: {generator.made['generator']}", {**generator.made, "seed": seed})
    new = {slot: NewFile(content, generator.suffix, *origin) for slot, content in made.items()}
    slots = [
        replace(slot, files={**slot.files, **({name: new[slot.id]} if slot.id in new else {})})
        for slot in slots_of(anchors)
    ]
    return write_anchors(out, f"{anchors.name}+synthetic-{name}", slots, kinds)


def _draw_new(
    generator: Generator, kind: Modality, concept: str, slots: Sequence[str], seed: int, taken: set[bytes]
) -> dict[str, bytes]:
    """Draw a content for each slot, none as in ``taken``, to which they are added."""
    made: dict[str, bytes] = {}
    for attempt in range(_ATTEMPTS):
        waiting = [slot for slot in slots if slot not in made]
        seeds = [slot_seed(seed, generator.modality, slot, attempt) for slot in waiting]
        for slot, content in zip(waiting, generator.draw(concept, seeds) if waiting else [], strict=True):
            print_ = _fingerprint(kind, content, generator.suffix)
            if print_ not in taken:
                taken.add(print_)
                made[slot] = content
    if len(made) < len(slots):
        raise AnchorError(
            f"{len(made)} different anchors for {len(slots)} empty slots",
            where=f"{concept}, {generator.modality}",
            remedy="give the generator more to work with, or fill fewer concepts (--concept)",
        )
    return made


def _fingerprint(kind: Modality, content: bytes, suffix: str) -> bytes:
    with TemporaryDirectory() as folder:
        path = Path(folder, f"anchor{suffix}")
        path.write_bytes(content)
        return kind.fingerprint(kind.read_anchor(path))
