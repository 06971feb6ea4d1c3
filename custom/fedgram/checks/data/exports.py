"""Findings about marks that programs leave in data on their way to a file, for a person to judge."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fedgram.checks.finding import TAKE_OUT, Finding
from fedgram.config.site import Reading
from fedgram.data.dicom import read_dicom
from fedgram.data.images import patient
from fedgram.data.labels import joined
from fedgram.data.pixels import Picture, is_dicom
from fedgram.data.rows import MISSING, Row, category, folded, is_missing
from fedgram.records import Sample

_GARBLED = re.compile("Ã[\x80-\xbf]|â€|\ufffd")  # UTF-8 taken for Latin-1, and what nobody could read
_ROUNDED = re.compile(r"\d([.,]\d+)?[eE]\+\d+")  # how spreadsheets show long numbers
_CODES = {float(sign + digits) for sign in ("-", "") for digits in ("99", "999", "9999", "99999")} | {-9.0}
_SEPARATORS = re.compile(r"[\s_.]++(?!\d)|(?<![\d\s_.])[\s_.]+|(?<=[^\W\d_])-(?=[^\W\d_])")
_SIGNS = str.maketrans("‐‑‒–—−‘’`´", "------''''")
_CODE = re.compile(r"0*(\d+)(\.0+)?")  # 17 and 17.0, 017 and 17: what spreadsheets make of one code
_FEW = 10  # samples, of which nothing can be said


def suspicions(reading: Reading, parts: Mapping[str, Sequence[Sample]]) -> Iterator[Finding]:
    """Warnings about names, texts, columns and images that look as if a program had changed them."""
    samples = [sample for part in parts.values() for sample in part]
    yield from _names(reading, samples)
    texts = [s for s in samples if isinstance(s.content, str) and _GARBLED.search(s.content)]
    if texts:
        yield Finding(
            "warning",
            f"{len(texts)} texts have letters that were read in a wrong encoding, the first in {texts[0].source}",
            "export them again as UTF-8",
        )
    if isinstance(parts["train"][0].content, Row):
        yield from _columns(parts["train"])
    yield from _patients(samples)
    pictures = [s.content.path for s in samples if isinstance(s.content, Picture)]
    if reading.window is None and any(_is_ct(path) for path in pictures if is_dicom(path)):
        yield Finding(
            "warning",
            "CT without a window of the site: each file has its own, and the same tissue different greys",
            "say `window = [lowest, highest]` in Hounsfield units, for soft tissue [-160, 240]",
        )


def _patients(samples: Sequence[Sample]) -> Iterator[Finding]:
    """A warning where DICOM files know of patients that the groups do not; one for all files is none."""
    groups = defaultdict(set)
    for sample in samples:
        if isinstance(sample.content, Picture) and (name := patient(sample.content.path)):
            groups[name].add(sample.group)
    torn = sum(len(found) > 1 for found in groups.values())
    if torn and len(groups) > 1:
        yield Finding(
            "warning",
            f"DICOM files of one patient are in several groups, and may be on two sides of the split: {torn} such",
            "add a column with the patient of each file, and name it as group under [columns]",
        )


def _is_ct(path: Path) -> bool:
    return read_dicom(path, pixels=False).get("Modality") == "CT"


def _names(reading: Reading, samples: Sequence[Sample]) -> Iterator[Finding]:
    labels = Counter(label for s in samples for label in {*s.labels, s.concept} - {""})
    for alike in _alike(labels):
        yield Finding("warning", f"{' and '.join(alike)} differ only in their spelling", "give one class one name")
    groups = Counter(s.group for s in samples)
    if people := _alike(groups):
        more = f" (and {len(people) - 1} more such)" if len(people) > 1 else ""
        yield Finding(
            "warning",
            f"groups {' and '.join(people[0])} differ only in their spelling{more}",
            "give one patient one name: else two sides of the split may have the same patient",
        )
    named = labels | groups
    unknown = sorted(name for name in named if name.lower() in MISSING)
    if unknown:
        yield Finding(
            "warning",
            f"{folded(unknown)} as the name of a class or group: {sum(named[n] for n in unknown)} samples",
            "if it says that nothing is known, take these samples out or complete them",
        )
    if reading.task == "multilabel" and not reading.columns.targets and any("," in label for label in labels):
        yield Finding("warning", "labels with commas", "separate the labels of a sample by | or ;")
    several = joined(labels) if reading.task == "classification" else []
    if several:
        yield Finding(
            "warning",
            f"{folded(several)}: several of the other classes in one",
            'if a sample may have several labels, say `task = "multilabel"`, and put | or ; between them',
        )
    rounded = sum(bool(_ROUNDED.fullmatch(name)) for s in samples for name in (s.id, s.group))
    if rounded:
        yield Finding("warning", f"{rounded} ids or groups like 1.23E+12", "format the column as text and export")


def _alike(names: Iterable[str]) -> list[list[str]]:
    """Names that are the same but for their spelling, in quotes where it cannot be seen."""
    found = defaultdict(list)
    for name in sorted(names):
        found[_plain(name)].append(name if name.isprintable() else repr(name))
    return [alike for key, alike in found.items() if key and len(alike) > 1]


def _plain(name: str) -> str:
    """A name without capitals, separators, invisible letters and typesetting; a sign (CD4-, P1_1) stays."""
    plain = unicodedata.normalize("NFKC", name.translate(_SIGNS))
    seen = "".join(letter for letter in plain if unicodedata.category(letter) != "Cf")
    code = _CODE.fullmatch(seen.strip())
    return code[1] if code else _SEPARATORS.sub("", seen.casefold())


def _columns(train: Sequence[Sample]) -> Iterator[Finding]:
    telling, coded = [], []
    for number, name in enumerate(train[0].content.columns):
        cells = [sample.content.values[number] for sample in train]
        if len(train) >= _FEW and _tells(cells, train):
            telling.append(name)
        numbers = [cell for cell in cells if isinstance(cell, float) and not is_missing(cell)]
        if _has_code(numbers):
            coded.append(name)
    if telling:
        yield Finding(
            "warning",
            f"column{'s' * (len(telling) > 1)} {folded(telling)}: says the target, one value for each",
            f"{TAKE_OUT} if it is the label again, or known only afterwards",
        )
    if coded:
        yield Finding(
            "warning",
            f"column{'s' * (len(coded) > 1)} {folded(coded)}: a code such as -99 or 999 among the numbers",
            "leave cells blank where nothing is known",
        )


def _tells(cells: Sequence[float | str], train: Sequence[Sample]) -> bool:
    """Whether values and targets go together, one to one: some of them twice, or numbers in the same order."""
    both = [(cell, s.concept if s.target is None else s.target) for cell, s in zip(cells, train, strict=True)]
    numbers = {(x, y) for x, y in both if isinstance(x, float) and isinstance(y, float) and not is_missing(x)}
    if len(numbers) >= _FEW:
        steps = np.diff(sorted(numbers), axis=0)
        return bool((steps[:, 0] > 0).all() and abs(np.sign(steps[:, 1]).sum()) == len(steps))
    pairs = {(category(cell), repr(target)) for cell, target in both}
    values, targets = ({pair[side] for pair in pairs} for side in (0, 1))
    return 1 < len(pairs) == len(values) == len(targets) < len(train)


def _has_code(numbers: Sequence[float]) -> bool:
    """Whether a number of nines stands apart from all others, at least twice."""
    for code in {min(numbers), max(numbers)} & _CODES if numbers else ():
        others = [abs(number) for number in numbers if number != code]
        apart = min(numbers) == code < 0 <= min(others, default=-1) or 5 * max(others, default=code) < code
        if apart and numbers.count(code) > 1:
            return True
    return False
