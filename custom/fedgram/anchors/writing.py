"""Writing an anchor set: in memory first, put in its place in one step, read back as every site will read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedgram.anchors import MANIFEST, AnchorFile, AnchorSet, Origin, load_anchors
from fedgram.anchors.coverage import duplicates
from fedgram.errors import AnchorError, DataError
from fedgram.modalities.base import Modality


@dataclass(frozen=True)
class NewFile:
    """One modality's sample of a slot that is still to be written; see :class:`~fedgram.anchors.AnchorFile`."""

    content: bytes
    suffix: str
    origin: Origin
    licence: str
    source: str
    made: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class NewSlot:
    """A slot and its files by modality; a modality that is not there leaves its part of the slot empty."""

    id: str
    concept: str
    files: Mapping[str, NewFile]


def write_anchors(out: Path, name: str, slots: Sequence[NewSlot], kinds: Mapping[str, Modality]) -> AnchorSet:
    """Write a set that every site can read and that holds nothing twice.

    The same slots give the same bytes, and so the same manifest hash.

    Args:
        out: a new or an empty folder.
        kinds: modalities by name; files of one that is not given are taken as they are.

    Raises:
        AnchorError: ``out`` holds something, a file cannot be read by its modality, or a content is there twice.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise AnchorError(
            "already exists",
            where=out,
            expected="a new folder",
            remedy="an anchor set is never changed: write another one and pin that",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix=".anchors-") as temporary:
        folder = Path(temporary, "set")
        listed = [
            {"id": slot.id, "concept": slot.concept, "files": _write_files(folder, slot, kinds)} for slot in slots
        ]
        manifest = {"format": 1, "name": name, "slots": listed}
        (folder / MANIFEST).write_text(f"{json.dumps(manifest, indent=1, ensure_ascii=False)}\n", encoding="utf-8")
        _require_distinct(load_anchors(folder), kinds)
        folder.replace(out)
    return load_anchors(out)


def _write_files(folder: Path, slot: NewSlot, kinds: Mapping[str, Modality]) -> dict[str, Any]:
    written = {}
    for modality, file in slot.files.items():
        name = f"{modality}/{slot.id}{file.suffix}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        try:
            if modality in kinds:
                kinds[modality].read_anchor(path)
        except DataError as error:
            raise AnchorError(
                f"not an anchor of modality {modality!r}: {error.problem}",
                where=f"{slot.id}, from {file.source}",
                expected=error.expected,
                remedy=error.remedy,
            ) from error
        digest = sha256(file.content).hexdigest()
        entry = asdict(AnchorFile(name, digest, file.origin, file.licence, file.source, file.made))
        written[modality] = {key: value for key, value in entry.items() if value is not None}
    return written


def _require_distinct(anchors: AnchorSet, kinds: Mapping[str, Modality]) -> None:
    twice = duplicates({"this set": anchors}, kinds)
    if twice:
        slots = [slot for _, slot in twice[0].places]
        files = [slot.files[twice[0].modality].source for slot in anchors.slots if slot.id in slots]
        raise AnchorError(
            f"the same {twice[0].modality} content {len(slots)} times",
            where=", ".join(slots),
            expected="every anchor once",
            remedy=f"take out all but one of: {'; '.join(files)}",
        )


def slots_of(anchors: AnchorSet) -> list[NewSlot]:
    """The slots of a set as new ones, for a copy."""
    return [
        NewSlot(
            slot.id,
            slot.concept,
            {
                modality: NewFile(
                    content=(anchors.folder / file.path).read_bytes(),
                    suffix=Path(file.path).name.removeprefix(slot.id),
                    origin=file.origin,
                    licence=file.licence,
                    source=file.source,
                    made=file.made,
                )
                for modality, file in slot.files.items()
            },
        )
        for slot in anchors.slots
    ]
