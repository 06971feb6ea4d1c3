"""The kind of a column of somebody's table, by what stands in it and by what it is called."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from fedgram.data.clips import AUDIO
from fedgram.data.labels import joined
from fedgram.data.numbers import parse_numbers
from fedgram.data.paths import SUFFIXES
from fedgram.data.rows import MISSING
from fedgram.data.tables import UNNAMED

Kind = Literal["number", "name", "text", "image", "audio", "blank"]

LABELS = ("concept", "label", "labels", "class", "target", "diagnosis", "y")
GROUPS = (
    *("group", "patient", "patient_id", "patientid", "subject", "subject_id", "subjectid", "donor", "donor_id"),
    *("participant", "participant_id", "individual", "individual_id", "case_id", "mouse", "animal", "mrn"),
)
_OF = "record|sample|patient|subject"
_ID = re.compile(
    rf"(.*_)?(({_OF}|u?subj|pat|pt|case|study|row|p|uu)?id|barcode|accession|mrn|ipp"
    rf"|({_OF}|case|pat|pt|patienten|fall|aufnahme|proben?)_?(no|nr|num|number|nummer)"
    rf"|(n|no|nr|num|num[eé]ro)_(de_|du_)?({_OF}|dossier|sujet))"
)
_ROW = re.compile(r"(.*_)?(index|key)")  # of a row where no other has it; else it may be a score
_WORDS = 4  # on average, of a text
_CLASSES = 20  # at most, of whole numbers that are classes


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: in the header.
        kind: a number, a short name, a text of several words, the file of an image or of a
            recording, or nothing at all.
        distinct: how many different cells there are that are not blank.
        filled: how many of these there are.
        whole: whether all are whole numbers.
        lists: whether some cells hold several names, with ``|`` between them; or ``;``, if these are also alone.
    """

    name: str
    kind: Kind
    distinct: int
    filled: int
    whole: bool = False
    lists: bool = False

    @property
    def called(self) -> str:
        """The name in small letters, with ``_`` for all other signs."""
        return _called(self.name)

    @property
    def is_class(self) -> bool:
        """Whether its cells repeat, as names of classes do."""
        return self.kind == "name" and 2 <= self.distinct <= self.filled / 2

    @property
    def is_named_id(self) -> bool:
        """Whether it is named like an id: of a row or, where it repeats, of a patient; never a measure."""
        row = self.distinct == self.filled and bool(_ROW.fullmatch(self.called))
        return (self.kind == "name" or self.whole) and (row or is_name_of_id(self.name))

    @property
    def is_id(self) -> bool:
        """Whether it names rows: every cell another, and a name that says so."""
        return self.is_named_id and self.distinct == self.filled > 1

    @property
    def is_repeated_id(self) -> bool:
        """Whether several rows have one id, as visits of a patient do."""
        return self.is_named_id and 1 < self.distinct < self.filled

    @property
    def is_number_of_class(self) -> bool:
        """Whether its whole numbers are few enough to be classes."""
        return self.whole and self.distinct <= min(_CLASSES, self.filled / 2)


def is_name_of_id(name: str) -> bool:
    """Whether a column is named like an id: ``record_id``, ``SampleID``, ``pid``."""
    return bool(_ID.fullmatch(_called(name)))


def look(table: pd.DataFrame) -> list[Column]:
    """Tell the kind of every column of a table that has a name."""
    return [_look(name, table[name].tolist()) for name in table.columns if not name.startswith(UNNAMED)]


def _called(name: str) -> str:
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)  # SampleID
    return re.sub(r"\W+", "_", parted.lower()).strip("_")


def _look(name: str, cells: Sequence[str]) -> Column:
    """Look at every cell: a table may be sorted by patient, visit or class."""
    filled = [cell for cell in cells if cell.lower() not in MISSING]
    distinct = len(set(filled))
    if not filled:
        return Column(name, "blank", 0, 0)
    commas = any("," in cell for cell in filled)
    numbers = parse_numbers([re.sub(r"(?<=\d),(?=\d)", ".", cell) for cell in filled] if commas else filled)
    finite = numbers[np.isfinite(numbers)]
    if len(finite) >= 0.9 * len(filled):
        return Column(name, "number", distinct, len(filled), whole=bool((finite == finite.round()).all()))
    if all(Path(cell).suffix.lower() in SUFFIXES for cell in filled):
        return Column(name, "image", distinct, len(filled))
    if all(Path(cell).suffix.lower() in AUDIO for cell in filled):
        return Column(name, "audio", distinct, len(filled))
    words = sum(len(cell.split()) for cell in filled) / len(filled)
    lists = sum("|" in cell for cell in filled) >= 0.1 * len(filled)
    kind = "text" if words >= _WORDS and not lists else "name"
    lists = lists or (kind == "name" and any(";" in name for name in joined(set(filled))))
    return Column(name, kind, distinct, len(filled), lists=lists)
