"""The settings that somebody's own file needs, told from the file where it leaves no choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedgram.config.site import Columns, Reading
from fedgram.config.targets import targets_of
from fedgram.data.clips import is_audio
from fedgram.data.columns import GROUPS, LABELS, Column, look
from fedgram.data.folders import below
from fedgram.data.labels import SPLITS, label_columns, read_splits
from fedgram.data.pixels import is_image
from fedgram.data.sequences import is_sequence_file, labels_beside
from fedgram.data.tables import read_table
from fedgram.errors import ConfigError, DataError

_FILES = {"image": ("images", is_image), "audio": ("recordings", is_audio)}  # a file is a sample
HINTS = ("label", "group", "text", "path", "task")  # what a user may say, and is asked for

_WEAK = "y"  # names a label, or a coordinate
_CODED = 20  # columns of a few whole numbers: more of them are counts, as of genes, unless they say yes or no


class Undecided(ConfigError):
    """The file leaves a choice that only its owner can make.

    Args:
        what: is to be chosen: ``modality``, or one of :data:`HINTS`.
        choices: among which.
        where: the file.
        why: there is a choice.
    """

    def __init__(self, what: str, choices: Sequence[str], where: Path, why: str):
        self.what, self.choices = what, tuple(choices)
        remedy = f"say --{what} COLUMN, or --{what} SITE=COLUMN for one site"
        if what == "modality":
            remedy = f"say it before the path: {self.choices[0]}:{where}"
        if what == "group":
            remedy += "; id where every row is one of its own"
        super().__init__(why, where=where, expected=", ".join(self.choices[:20]) or None, remedy=remedy)


@dataclass(frozen=True, kw_only=True)
class Guess:
    """The way in which a file is to be read.

    Attributes:
        modality: of the data.
        columns: of its table, or of the table of labels.
        task: that its targets make.
        notes: what was told from the file, in words, for its owner to confirm.
        features: of a table: the columns that its tokens come from; empty for all other modalities.
    """

    modality: str
    columns: Columns
    task: str = "classification"
    notes: tuple[str, ...] = ()
    features: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """The column of the target."""
        return self.columns.target or self.columns.concept


def understand(path: Path, modality: str | None = None, hints: Mapping[str, str] | None = None) -> Guess:
    """Tell modality, label, group and text column of a file, as far as nobody has said them.

    Args:
        path: a folder of images or recordings, FASTA or FASTQ with a table of labels beside it, or a table.
        modality: where it is known.
        hints: what its owner says, by :data:`HINTS`.

    Raises:
        Undecided: there is a choice.
        ConfigError: a hint names a column that is not there.
        DataError: the file cannot be read, or holds nothing that is understood.
    """
    hints = hints or {}
    if path.is_dir():
        return _folder(path, modality)
    if not path.exists():
        raise DataError("no such file or folder", where=path, remedy="correct the path")
    if is_sequence_file(path):
        return _Table(labels_beside(path), hints).guess(modality or "genomics")
    table = _Table(path, hints)
    return table.guess(modality or table.modality())


def _folder(path: Path, modality: str | None) -> Guess:
    for kind, (what, is_one) in _FILES.items():
        if modality in (None, kind) and any(map(is_one, below(path))):
            notes = (f"a folder of {what}: each sub-folder is a class; a folder between is a patient",)
            return Guess(modality=kind, columns=Columns(), notes=notes)
    if modality is None or modality in _FILES:
        what = "images or recordings" if modality is None else _FILES[modality][0]
        raise DataError(f"no {what} in the folder", where=path, expected="<class>/<file>, or the path of a table")
    return Guess(modality=modality, columns=Columns())


class _Table:
    """A table whose columns are told apart.

    Args:
        path: of the table.
        hints: what its owner says.
    """

    def __init__(self, path: Path, hints: Mapping[str, str]):
        self._path, self._hints = path, hints
        self._table = read_table(path)
        self._columns = look(self._table)
        self._names = [column.name for column in self._columns]
        self._notes: list[str] = []

    def modality(self) -> str:
        """The modality of the table's contents: paths of images or recordings, texts, or numbers."""
        kinds = [column.kind for column in self._columns]
        for kind in _FILES:
            if kind in kinds:
                return kind
        numbers = [c for c in self._columns if c.kind == "number" and c.name != self._hints.get("label")]
        others = [c for c in numbers if not c.is_named_id and c.called not in (*LABELS, *GROUPS)]
        if "text" not in kinds:
            return "tabular"
        if not others or "text" in self._hints:
            return "text"
        texts = ", ".join(repr(c.name) for c in self._columns if c.kind == "text")
        raise Undecided("modality", ("text", "tabular"), self._path, f"texts in {texts} and {len(others)} numbers")

    def guess(self, modality: str) -> Guess:
        """All settings, one after the other."""
        split = self._split()
        label, task = self._label(split)
        group = self._group(label)
        columns = replace(
            Columns(concept=label) if task == "classification" else Columns(target=label), group=group, split=split
        )
        targets = targets_of(task)
        known = label_columns(Reading(columns=columns, task=targets))
        if name := self._id(known):
            columns = replace(columns, id=name)
        if modality == "text":
            columns = replace(columns, text=self._text(known))
        if modality in _FILES:
            columns = replace(columns, path=self._one("path", [c for c in self._columns if c.kind == modality]))
        features: tuple[str, ...] = ()
        if modality == "tabular":
            columns = replace(columns, drop=self._dropped(known | {columns.id}))
            labels = label_columns(Reading(columns=columns, task=targets))
            features = tuple(name for name in self._names if name not in labels)
        return Guess(modality=modality, columns=columns, task=task, notes=tuple(self._notes), features=features)

    def _say(self, what: str, name: str, why: str) -> str:
        self._notes.append(f"{what}: {name} ({why})")
        return name

    def _hinted(self, what: str) -> Column | None:
        if what not in self._hints:
            return None
        found = next((c for c in self._columns if c.name == self._hints[what]), None)
        if found is None:
            raise ConfigError(
                f"no column {self._hints[what]!r}", where=self._path, expected=", ".join(self._names[:20])
            )
        return found

    def _one(self, what: str, candidates: Sequence[Column], why: str = "the only one that can be it") -> str:
        """The only candidate, said aloud."""
        if hinted := self._hinted(what):
            return hinted.name
        if len(candidates) == 1:
            return self._say(what, candidates[0].name, why)
        problem = (
            f"{len(candidates)} columns may be the {what}" if candidates else f"no column looks like the {what}"
        )
        raise Undecided(what, [c.name for c in candidates] or self._names, self._path, problem)

    def _split(self) -> str:
        """The column that names the splits, by what it is called or holds; none if one called so holds others."""
        called = [c.name for c in self._columns if c.called == "split"]
        others = [c.name for c in self._columns if c.name != self._hints.get("label") and self._holds_splits(c)]
        if not called and len(others) > 1:
            raise DataError(
                f"{len(others)} columns name train, validation and test: {', '.join(others[:8])}",
                where=self._path,
                remedy="call the one that holds `split`, and take the others out",
            )
        called = called or others
        for name in called:
            if any(cell.lower() in SPLITS for cell in self._table[name]):
                read_splits(self._table, self._path, Columns(split=name))
                return self._say("split", name, "every row is in the one that it names")
        if called:
            self._notes.append(f"split: by group, as column {called[0]} names neither train, validation nor test")
            return ""
        return Columns.split

    def _holds_splits(self, column: Column) -> bool:
        """Whether every cell names a part of a split, some of them the training samples."""
        if column.kind != "name" or column.distinct > 2 * len(SPLITS):
            return False
        parts = {SPLITS.get(cell.lower()) for cell in self._table[column.name]}
        return None not in parts and "train" in parts and len(parts) > 1

    def _label(self, split: str) -> tuple[str, str]:
        """The column of the label, and the task that it makes."""
        called = [c for c in self._columns if c.called in LABELS and c.called != _WEAK]
        others = [c for c in self._columns if c.name != split and c.called not in GROUPS and not c.is_named_id]
        coded = [c for c in others if c.is_number_of_class and c.distinct > 1]
        if len(coded) > _CODED:
            coded = [c for c in coded if c.distinct == 2]
        found = [c for c in others if c.is_class or c in coded or c.called == _WEAK]
        name = self._one("label", called, "by its name") if called else self._one("label", found)
        column = next(c for c in self._columns if c.name == name)
        task = self._hints.get("task") or _task(column)
        what = f"{task} into {column.distinct} classes" if task == "classification" else task
        self._notes.append(
            f"task: {what}, {'as said' if 'task' in self._hints else f'by what column {name} holds'}"
        )
        return name, task

    def _group(self, label: str) -> str:
        """The column of what must not be on two sides of a split; ``id`` where every row is one of its own."""
        if self._hints.get("group") == "id":
            repeats = any(c.name == "id" and c.is_repeated_id for c in self._columns)
            kept = "its rows stay on one side of the split" if repeats else "every row is one of its own"
            return self._say("group", "id", f"as said: {kept}")
        others = [c for c in self._columns if c.name != label]
        found, repeated = [c for c in others if c.called in GROUPS], [c.name for c in others if c.is_repeated_id]
        if found or "group" in self._hints:
            return self._one("group", found, "by its name: its rows stay on one side of the split")
        if repeated:
            names = ", ".join(repeated[:8])
            raise Undecided("group", repeated, self._path, f"{names}: named like an id, and several rows have one")
        self._notes.append(
            "group: none was found, so every row is one; say --group COLUMN where several are of one patient"
        )
        return "id"

    def _id(self, known: set[str]) -> str:
        own = next((c for c in self._columns if c.name == "id"), None)
        found = [c.name for c in self._columns if c.is_id and c.name not in known]
        if own is None or (own.is_repeated_id and found):
            return self._say("id", found[0], "every row has another") if found else ""
        if own.is_repeated_id:
            raise DataError(
                "column 'id' repeats",
                where=self._path,
                expected="another id in every row",
                remedy="if it is the patient's, rename it patient; else give every row an id of its own",
            )
        return ""

    def _text(self, known: set[str]) -> str:
        texts = [c for c in self._columns if c.kind == "text" and c.name not in known]
        if not texts:
            texts = [c for c in self._columns if c.kind == "name" and c.name not in known and not c.is_named_id]
        called = [c for c in texts if c.called == "text"]
        return self._one("text", called or texts)

    def _dropped(self, known: set[str]) -> tuple[str, ...]:
        """Columns of a table that are no features: texts, ids, names of one row each, and blanks."""
        reasons: dict[str, Callable[[Column], bool]] = {
            "texts": lambda c: c.kind in ("text", *_FILES),
            "another name in every row": lambda c: c.kind == "name" and c.distinct == c.filled > 2,
            "ids": lambda c: c.is_named_id,
            "blank": lambda c: c.kind == "blank",
        }
        dropped = []
        for why, holds in reasons.items():
            found = [c.name for c in self._columns if c.name not in (*known, *dropped) and holds(c)]
            if found:
                self._say("no features", ", ".join(found[:8]) + (" …" if len(found) > 8 else ""), why)
            dropped += found
        return tuple(dropped)


def _task(column: Column) -> str:
    if column.lists:
        return "multilabel"
    return "regression" if column.kind == "number" and not column.is_number_of_class else "classification"
