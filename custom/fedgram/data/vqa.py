"""Questions about pictures in the published format of VQA v2 (Goyal et al. 2017)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedgram.data.items import Question
from fedgram.data.json_entries import by_identity, entries, identity, read_object, value
from fedgram.errors import DataError

_QUESTIONS, _ANNOTATIONS = "*_questions.json", "*_annotations.json"
_PARTS = {"train": "train", "val": "validation", "test": "test"}


def read_vqa(folder: Path) -> list[Question]:
    """Read all questions of a folder, in the order of the files.

    The folder holds ``…_questions.json`` and ``…_annotations.json``, a pair for each ``data_subtype`` (such as
    ``val2014``). The pictures ``COCO_<subtype>_<image id, 12 digits>`` with any suffix of pictures lie beside, or
    in a folder with the name of the subtype. Several subtypes are a split of the data, by how they begin:
    ``train``, ``val`` or ``test``. Without ``test``, ``val`` is what is tested, as is usual for VQA v2.

    Raises:
        DataError: a file is missing or not of this format, questions and annotations do not match, a picture is
            missing, or there are no answers.
    """
    if not folder.is_dir():
        raise DataError("no such folder", where=folder, remedy="correct the path in the site file")
    questions, annotations = _by_subtype(folder, _QUESTIONS), _by_subtype(folder, _ANNOTATIONS)
    if not questions:
        raise DataError("no questions", where=folder, expected=f"files {_QUESTIONS} and {_ANNOTATIONS}")
    for subtype in questions.keys() ^ annotations.keys():
        missing = _ANNOTATIONS if subtype in questions else _QUESTIONS
        raise DataError(f"no {missing} of the subtype {subtype!r}", where=folder, expected="a pair of files")
    parts = _split_of(list(questions))
    read: dict[str, Question] = {}
    for subtype, asked in questions.items():
        for question in _read_pair(asked, annotations[subtype], folder, subtype, parts[subtype]):
            if question.id in read:
                raise DataError("a question_id is in two files", where=asked.path)
            read[question.id] = question
    return list(read.values())


def picture_name(subtype: str, number: int | str) -> str:
    """The file name of a picture, without suffix."""
    return f"COCO_{subtype}_{number:0>12}"


@dataclass(frozen=True)
class _File:
    path: Path
    record: Mapping[str, Any]

    def by_question(self, name: str, what: str) -> dict[str, Mapping[str, Any]]:
        return by_identity(entries(self.record, name, str(self.path)), "question_id", self.path, what)


def _by_subtype(folder: Path, pattern: str) -> dict[str, _File]:
    found: dict[str, _File] = {}
    for path in sorted(folder.glob(pattern)):
        record = read_object(path)
        subtype = value(record, "data_subtype", str, str(path))
        if subtype in found:
            raise DataError(f"two files of the subtype {subtype!r}", where=folder, expected=f"one {pattern}")
        found[subtype] = _File(path, record)
    return found


def _split_of(subtypes: Sequence[str]) -> dict[str, str]:
    if len(subtypes) == 1:
        return {subtypes[0]: ""}
    parts = {s: next((part for start, part in _PARTS.items() if s.startswith(start)), "") for s in subtypes}
    if "" in parts.values():
        raise DataError(
            f"subtypes {', '.join(sorted(subtypes))}",
            where="data_subtype",
            expected="names that begin with train, val or test where there are several",
        )
    if "test" not in parts.values():
        parts = {s: "test" if part == "validation" else part for s, part in parts.items()}
    return parts


def _pictures(folder: Path, subtype: str) -> dict[str, Path]:
    """Pictures of a subtype by their names without suffix."""
    own = folder / subtype
    place = own if own.is_dir() else folder
    found: dict[str, Path] = {}
    for path in sorted(place.glob(f"COCO_{subtype}_*")):
        if path.stem in found:
            raise DataError("two files for one picture", where=path, expected="one suffix for each")
        found[path.stem] = path
    return found


def _read_pair(questions: _File, annotations: _File, folder: Path, subtype: str, split: str) -> list[Question]:
    asked = questions.by_question("questions", "question")
    answered = annotations.by_question("annotations", "annotation")
    if not asked:
        raise DataError("no questions", where=questions.path)
    unanswered, unasked = len(asked.keys() - answered.keys()), len(answered.keys() - asked.keys())
    if unanswered or unasked:
        raise DataError(
            f"{unanswered} questions without annotation, {unasked} annotations without question",
            where=f"{questions.path} and {annotations.path.name}",
            expected="an annotation for each question_id",
        )
    pictures = _pictures(folder, subtype)
    read = []
    for number, (key, entry) in enumerate(asked.items(), 1):
        where = f"{questions.path}, question {number}"
        image_id = identity(entry, "image_id", where)
        image = pictures.get(picture_name(subtype, image_id))
        if image is None:
            raise DataError(
                "its picture is missing",
                where=where,
                expected=f"COCO_{subtype}_<12 digits>.jpg in {subtype}/, or beside the file",
            )
        if identity(answered[key], "image_id", where) != image_id:
            raise DataError("its annotation is of another picture", where=where)
        read.append(_question(key, image, value(entry, "question", str, where), answered[key], split, where))
    return read


def _question(key: str, image: Path, text: str, note: Mapping[str, Any], split: str, where: str) -> Question:
    answers = _answers(note, where)
    answer = note.get("multiple_choice_answer") or Counter(answers).most_common(1)[0][0]
    concept = note.get("concept", "")
    if not isinstance(answer, str) or not isinstance(concept, str):
        raise DataError("its multiple_choice_answer or concept is no text", where=where)
    return Question(
        id=key,
        image=image,
        text=text,
        answers=answers,
        answer=answer,
        kind=value(note, "answer_type", str, where),
        concept=concept,
        split=split,
    )


def _answers(note: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """The answers of all people; some said nothing, and an empty answer is one."""
    answers = [entry.get("answer") for entry in entries(note, "answers", where)]
    if not answers or not all(isinstance(answer, str) for answer in answers):
        raise DataError("no answers", where=where, expected="texts of ten people, at least of one")
    return tuple(map(str, answers))
