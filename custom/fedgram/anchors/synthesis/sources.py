"""The data that a generator is fitted on: the real anchors of the set, or a public file that somebody names."""

from __future__ import annotations

from collections import defaultdict
from hashlib import sha256
from pathlib import Path

import pandas as pd

from fedgram.anchors import AnchorSet
from fedgram.anchors.build import LABELS
from fedgram.config.site import Reading
from fedgram.data.rows import pointed
from fedgram.data.sequences import read_records, read_sequences
from fedgram.data.tables import read_table, require_column
from fedgram.errors import AnchorError


def table_rows(anchors: AnchorSet, public: Path | None) -> tuple[dict[str, pd.DataFrame], str]:
    """Read rows by concept as strings, with the columns of the set's tables, and the manifest's name for them.

    Args:
        public: a CSV with the column ``concept``; the set's real anchors when absent.

    Raises:
        AnchorError: the public table lacks a column that the anchors have.
        DataError: it cannot be read.
    """
    real = _real(anchors, "tabular")
    own = {concept: [pointed(path, read_table(path)) for path in paths] for concept, paths in real.items()}
    rows = {concept: _features(pd.concat(tables, ignore_index=True)) for concept, tables in own.items()}
    if public is None:
        return rows, _named(anchors)
    table = read_table(public)
    concepts = require_column(table, "concept", public, "concept")
    of_anchors = dict.fromkeys(c for found in rows.values() for c in found.columns)
    columns = [*(of_anchors or _features(table).columns)]
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise AnchorError(
            f"no column {missing[0]!r}", where=public, expected=f"those of the anchors: {', '.join(columns)}"
        )
    features = pointed(public, pd.DataFrame(table[columns]))
    return {str(concept): found for concept, found in features.groupby(concepts)}, _file(public)


def sequences(anchors: AnchorSet, public: Path | None) -> tuple[dict[str, list[str]], str]:
    """Read DNA by concept, and the manifest's name for it.

    Args:
        public: a FASTA file with its label table beside it; the set's real anchors when absent.

    Raises:
        DataError: it cannot be read.
    """
    found: dict[str, list[str]] = defaultdict(list)
    if public is None:
        for concept, paths in _real(anchors, "genomics").items():
            found[concept] = [sequence for path in paths for sequence in read_records(path).values()]
        return dict(found), _named(anchors)
    for sample in read_sequences(public, Reading()):
        found[sample.concept].append(sample.content)
    return dict(found), _file(public)


def _real(anchors: AnchorSet, modality: str) -> dict[str, list[Path]]:
    """Files of the real anchors by concept: nothing is fitted on synthetic ones."""
    found: dict[str, list[Path]] = defaultdict(list)
    for slot in anchors.slots:
        file = slot.files.get(modality)
        if file is not None and file.origin == "real":
            found[slot.concept].append(anchors.folder / file.path)
    return found


def _features(table: pd.DataFrame) -> pd.DataFrame:
    return table.drop(columns=[column for column in LABELS if column in table.columns])


def _named(anchors: AnchorSet) -> str:
    return f"real anchors of {anchors.name}, manifest {anchors.manifest_sha256}"


def _file(path: Path) -> str:
    return f"{path.name}, sha256 {sha256(path.read_bytes()).hexdigest()}"
