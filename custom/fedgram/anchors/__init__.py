"""Public anchor sets: B slots, each with a concept and, where a modality has it, that modality's own sample.

Folder layout: ``manifest.json`` and the files that it lists, nothing else. Manifest::

    {"format": 1, "name": "…", "slots": [{"id": "Ursidae-1", "concept": "Ursidae", "files": {
        "text": {"path": "text/Ursidae-1.txt", "sha256": "…", "origin": "real",
                 "licence": "…", "source": "…"}}}]}
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from fedgram.config.strict import composed
from fedgram.errors import AnchorError
from fedgram.files import read_small
from fedgram.modalities.base import Modality

MANIFEST = "manifest.json"
Origin = Literal["real", "synthetic"]
_REBUILD = "fetch the anchor set again; a changed set needs a new manifest and a new job"


@dataclass(frozen=True)
class AnchorFile:
    """One modality's sample of a slot, as a file.

    Attributes:
        path: inside the set's folder, with forward slashes.
        sha256: of the file.
        origin: ``real``, or ``synthetic`` when a generator made it.
        licence, source: where it is from.
        made: of a synthetic file: generator, seed, model or what was fitted.
    """

    path: str
    sha256: str
    origin: Origin
    licence: str
    source: str
    made: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class AnchorSlot:
    """One slot of an anchor set; the modalities' samples share its concept and are not paired otherwise."""

    id: str
    concept: str
    files: Mapping[str, AnchorFile]


@dataclass(frozen=True)
class AnchorSet:
    """An anchor set: B slots in a fixed order.

    Attributes:
        folder: where the files are.
        name: of the set.
        slots: B of them.
        manifest_sha256: identifies the set, files and all.
    """

    folder: Path
    name: str
    slots: tuple[AnchorSlot, ...]
    manifest_sha256: str

    def __len__(self) -> int:
        return len(self.slots)

    def covered(self, modality: str) -> tuple[int, ...]:
        """The slots that a modality fills, ascending; not every modality has every concept."""
        return tuple(i for i, slot in enumerate(self.slots) if modality in slot.files)

    def concepts(self, modality: str) -> list[str]:
        """The concept of each covered slot, in the order of :meth:`covered`."""
        return [self.slots[i].concept for i in self.covered(modality)]

    def contents(self, modality: Modality) -> list[Any]:
        """The raw content of each covered slot, in the order of :meth:`covered`."""
        files = [self.slots[i].files[modality.name] for i in self.covered(modality.name)]
        return [modality.read_anchor(self.folder / file.path) for file in files]

    def pin(self) -> dict[str, Any]:
        """The set as a job names it: plain data of a :class:`~fedgram.config.job.AnchorPin`."""
        return {"sha256": self.manifest_sha256, "concepts": [slot.concept for slot in self.slots]}

    def require(self, expected_sha256: str) -> None:
        """Raise AnchorError unless this is the set that the federation uses."""
        if self.manifest_sha256 != expected_sha256:
            raise AnchorError(
                f"another anchor set (manifest {self.manifest_sha256[:12]}…)",
                where=self.folder,
                expected=f"manifest {expected_sha256[:12]}…",
                remedy="install the anchor set that the job names, at the server and at every site",
            )


def load_anchors(folder: Path) -> AnchorSet:
    """Read an anchor set and verify every file against the manifest.

    Raises:
        AnchorError: no manifest, a malformed one, or a file that is missing, edited or extra.
    """
    path = folder / MANIFEST
    if not path.is_file():
        raise AnchorError("no anchor manifest", where=path, remedy="name the folder that holds manifest.json")
    content = read_small(path, AnchorError)
    try:
        manifest = json.loads(content)
        if isinstance(manifest["format"], bool) or manifest["format"] != 1:
            raise AnchorError(f"manifest format {manifest['format']!r}", where=path, expected="1")
        slots = tuple(_read_slot(slot) for slot in manifest["slots"])
        anchors = AnchorSet(folder, str(manifest["name"]), slots, sha256(content).hexdigest())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        problem = f"malformed manifest ({type(error).__name__}: {str(error)[:200]})"
        raise AnchorError(problem, where=path, remedy=_REBUILD) from None
    _require_distinct(anchors, path)
    _verify(anchors)
    return anchors


def _read_slot(slot: Mapping[str, Any]) -> AnchorSlot:
    files = {modality: AnchorFile(**file) for modality, file in slot["files"].items()}
    for file in files.values():
        path = PurePosixPath(file.path)
        if not all(isinstance(text, str) for text in (file.sha256, file.licence, file.source)):
            raise TypeError("a hash, a licence or a source that is no text")
        if path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{file.path!r} is outside the folder")
        if file.origin not in get_args(Origin):
            raise ValueError(f"origin {file.origin!r}, expected real or synthetic")
        if file.made is not None and file.origin == "real":
            raise ValueError("a real file that was made by a generator")
    if not isinstance(slot["id"], str) or not isinstance(slot["concept"], str):
        raise TypeError("an id or a concept that is no text")
    return AnchorSlot(slot["id"], composed(slot["concept"]), files)


def _require_distinct(anchors: AnchorSet, path: Path) -> None:
    ids = [slot.id for slot in anchors.slots]
    paths = [file.path for slot in anchors.slots for file in slot.files.values()]
    if not ids or len(set(ids)) < len(ids) or len(set(paths)) < len(paths):
        raise AnchorError(
            "no slots, or a slot id or a file that is listed twice",
            where=path,
            expected="distinct slots and files",
        )


def _verify(anchors: AnchorSet) -> None:
    listed = {file.path: file.sha256 for slot in anchors.slots for file in slot.files.values()}
    for name, digest in listed.items():
        path = anchors.folder / name
        if not path.is_file() or name == MANIFEST:
            raise AnchorError("missing anchor file", where=path, remedy=_REBUILD)
        if sha256(path.read_bytes()).hexdigest() != digest:
            raise AnchorError("edited anchor file: not what the manifest says", where=path, remedy=_REBUILD)
    known = {*listed, MANIFEST}
    for path in sorted(anchors.folder.rglob("*")):
        is_folder = path.is_dir() and not path.is_symlink()
        if not is_folder and path.relative_to(anchors.folder).as_posix() not in known:
            raise AnchorError("extra file: not in the manifest", where=path, remedy="remove it")
