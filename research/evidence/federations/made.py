"""Anchors of one modality made by a generator instead of real ones: template text, copula, Markov chain."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from fedgram.anchors import AnchorSet
from fedgram.anchors.synthesis import Generator, fill
from fedgram.anchors.synthesis.copula import LEAST_ROWS, gaussian_copula
from fedgram.anchors.synthesis.markov import markov_chain
from fedgram.anchors.synthesis.prompts import read_prompts, sentences
from fedgram.anchors.synthesis.sources import sequences, table_rows
from fedgram.anchors.writing import NewFile, NewSlot, slots_of, write_anchors
from fedgram.errors import AnchorError

from research.evidence.federations import Federation
from research.evidence.federations.anchorsets import replace_files

_ORDER = 3  # of the Markov chain: 256 transitions, as two short reads have them
_TEMPLATES = (
    "{concept}",
    "this is {concept}",
    "a typical example of {concept}",
    "what is known about {concept}",
    "{concept}: a general description",
    "one of the kinds of {concept}",
)


def synthetic_anchors(
    federation: Federation, folder: Path, modality: str, *, public: Path | None = None, seed: int = 0
) -> Federation:
    """A federation with made training anchors of one modality, in the slots that it fills.

    A generator knows the names of the concepts (text), or is fitted on the real anchors of the set or on a public
    file. A concept of a table with fewer than 4 rows to fit on has no anchors then.

    Raises:
        AnchorError: a modality without a generator, or nothing to fit on.
    """

    def make(anchors: AnchorSet) -> Mapping[str, NewFile]:
        generator, concepts = _generator(anchors, modality, public)
        wanted = {anchors.slots[i].id for i in anchors.covered(modality) if anchors.slots[i].concept in concepts}
        with TemporaryDirectory() as temporary:
            bare = write_anchors(Path(temporary, "bare"), anchors.name, _bare(anchors, modality), {})
            filled = fill(
                bare,
                Path(temporary, "filled"),
                generator,
                licence="CC0-1.0",
                seed=seed,
                concepts=sorted(concepts),
            )
            return {slot.id: slot.files[modality] for slot in slots_of(filled) if slot.id in wanted}

    return replace_files(federation, folder, f"synthetic {modality} anchors {seed}", modality, make)


def _generator(anchors: AnchorSet, modality: str, public: Path | None) -> tuple[Generator, set[str]]:
    """The generator of anchors, and the concepts for which it has one."""
    concepts = set(anchors.concepts(modality))
    if modality == "text":
        return sentences(read_prompts(_TEMPLATES)), concepts
    if modality == "genomics":
        found, named = sequences(anchors, public)
        return markov_chain(found, _ORDER, named), concepts
    if modality == "tabular":
        rows, named = table_rows(anchors, public)
        fitted = {concept for concept in concepts if len(rows.get(concept, ())) >= LEAST_ROWS}
        if fitted:
            return gaussian_copula(rows, named), fitted
        raise AnchorError(
            f"no concept with {LEAST_ROWS} rows",
            where="synthetic tabular anchors",
            remedy="give a table of public rows",
        )
    raise AnchorError("no generator", where=modality, expected="text, genomics or tabular")


def _bare(anchors: AnchorSet, modality: str) -> list[NewSlot]:
    return [
        NewSlot(s.id, s.concept, {kind: file for kind, file in s.files.items() if kind != modality})
        for s in slots_of(anchors)
    ]
