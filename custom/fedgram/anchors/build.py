"""Building an anchor set from a user's own public files: ``<modality>/<concept>/<file>``.

Slots of a concept are numbered; slot j holds the j-th file of each modality, in the order of their names. A
modality with fewer files than another leaves the rest of its slots empty: nothing is repeated to fill them.
"""

from __future__ import annotations

import csv
import io
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from fedgram.anchors import AnchorSet, Origin
from fedgram.anchors.coverage import find_modality
from fedgram.anchors.writing import NewFile, NewSlot, write_anchors
from fedgram.config.strict import composed, from_dict
from fedgram.data.paths import visible
from fedgram.data.rows import pointed
from fedgram.data.sequences import read_records
from fedgram.data.tables import read_table
from fedgram.errors import AnchorError, ConfigError
from fedgram.modalities.base import Modality

SIDECAR = "sources.toml"
LABELS = ("id", "concept", "group")  # columns that are no features


@dataclass(frozen=True)
class Terms:
    """The source and licence of the files of one modality.

    Attributes:
        licence: under which everybody may have them.
        source: data set, version and citation; the name of each file is added.
        origin: ``synthetic`` for files that a generator made.
    """

    licence: str
    source: str
    origin: Origin = "real"


def build(
    source: Path, out: Path, *, name: str, terms: Mapping[str, str], declared: Sequence[str] = ()
) -> AnchorSet:
    """Write an anchor set from folders; the same files give the same set.

    A table or FASTA file with several rows or records counts as so many files.

    Args:
        source: folder with ``<modality>/<concept>/<file>``; in it, ``sources.toml`` may have a table of
            :class:`Terms` for each modality.
        out: folder of the new set.
        name: of the set.
        terms: licence and source of the modalities for which ``sources.toml`` says nothing else.
        declared: modalities that are not built in, as ``package.module:attribute``.

    Raises:
        AnchorError: the folders are not of that form, a file is no anchor or there twice, a licence or source
            is missing, or ``out`` is not empty.
        DataError: a table or FASTA file cannot be read.
        ConfigError: a declared modality that cannot be imported.
    """
    kinds = {folder.name: find_modality(folder.name, declared) for folder in _folders(source, "modality")}
    said = _terms(source, list(kinds), terms)
    files = {kind: _files_by_concept(source / kind, modality, said[kind]) for kind, modality in kinds.items()}
    slots = []
    for concept in sorted({concept for by_concept in files.values() for concept in by_concept}):
        columns = [by_concept.get(concept, []) for by_concept in files.values()]
        for number, row in enumerate(zip_longest(*columns), start=1):
            filled = {kind: file for kind, file in zip(files, row, strict=True) if file is not None}
            slots.append(NewSlot(f"{concept}-{number}", concept, filled))
    return write_anchors(out, name, slots, kinds)


def _folders(folder: Path, what: str) -> list[Path]:
    if not folder.is_dir():
        raise AnchorError("no such folder", where=folder, expected="<modality>/<concept>/<file> below it")
    entries = visible(folder)
    found = [path for path in entries if path.is_dir()]
    stray = [path for path in entries if not path.is_dir() and path.name != SIDECAR]
    if stray or not found:
        raise AnchorError(
            f"a file where a {what} folder should be" if stray else f"no {what} folder",
            where=stray[0] if stray else folder,
            expected="<modality>/<concept>/<file>",
        )
    return found


def _terms(source: Path, kinds: Sequence[str], default: Mapping[str, str]) -> dict[str, Terms]:
    path = source / SIDECAR
    tables: dict[str, Any] = {}
    if path.is_file():
        try:
            tables = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise AnchorError(f"not a TOML file: {error}", where=path) from None
    unused = sorted(set(tables) - set(kinds))
    if unused:
        raise AnchorError(f"no modality folder {unused[0]!r}", where=path, expected=", ".join(kinds))
    try:
        return {k: from_dict(Terms, {**default, **tables.get(k, {})}, f"{path}: {k}") for k in kinds}
    except (ConfigError, TypeError) as error:
        raise AnchorError(
            f"licence and source of every modality must be known ({error})",
            where=path,
            expected='a table of each modality with licence = "…" and source = "…"',
            remedy="write it, or give --licence and --source",
        ) from error


def _files_by_concept(folder: Path, modality: Modality, terms: Terms) -> dict[str, list[NewFile]]:
    files: dict[str, list[NewFile]] = {}
    for concept in _folders(folder, "concept"):
        files.setdefault(composed(concept.name), []).extend(_files(concept, modality, terms))
    return files


def _files(concept: Path, modality: Modality, terms: Terms) -> list[NewFile]:
    files = []
    for path in visible(concept):
        if not path.is_file():
            raise AnchorError("a folder inside a concept", where=path, expected="<modality>/<concept>/<file>")
        for part, (suffix, content) in _contents(path, modality).items():
            origin = f"{terms.source}: {concept.name}/{path.name}{part}"
            files.append(NewFile(content, suffix, terms.origin, terms.licence, origin))
    if not files:
        raise AnchorError("no file", where=concept, remedy="add anchors or remove the folder")
    return files


def _contents(path: Path, modality: Modality) -> dict[str, tuple[str, bytes]]:
    """Suffix and bytes of each anchor in a file, by the end of its name in the manifest's ``source``.

    A file of one anchor stays as it is, to the byte; a row loses its labels, which would be taken for features.
    """
    if modality.name == "tabular":
        table = read_table(path)
        features = table.drop(columns=[column for column in LABELS if column in table.columns])
        if len(table) > 1 or len(features.columns) < len(table.columns):
            rows = pointed(path, features).to_numpy().tolist()
            return {f", row {i}": (".csv", csv_bytes(features.columns, row)) for i, row in enumerate(rows, 1)}
    if modality.name == "genomics":
        records = read_records(path)
        if len(records) > 1:
            return {f", {name}": (".fasta", f">{name}\n{dna}\n".encode()) for name, dna in records.items()}
    plain = Path(path.name.removesuffix(".gz"))
    return {"": (plain.suffix.lower() + (".gz" if plain.name != path.name else ""), path.read_bytes())}


def csv_bytes(header: Iterable[str], row: Iterable[str]) -> bytes:
    """Encode a table of one row as CSV."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, row])
    return file.getvalue().encode()
