"""Questions and captions written in the formats in which fedgram reads them: VQA v2, and a table."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedgram.data.captions import TABLE
from fedgram.data.items import Caption, Question
from fedgram.data.vqa import picture_name
from fedgram.errors import DataError
from fedgram.files import write_text


def write_vqa(folder: Path, subtype: str, questions: Sequence[Question]) -> None:
    """Write questions as VQA v2 does, with copies of their pictures, which are numbered anew.

    Beyond the published fields an annotation has the ``concept`` of its picture.

    Raises:
        DataError: no questions.
    """
    if not questions:
        raise DataError("no questions", where=folder, expected="one at least")
    numbers = {path: number for number, path in enumerate(dict.fromkeys(q.image for q in questions), 1)}
    (folder / subtype).mkdir(parents=True, exist_ok=True)
    for path, number in numbers.items():
        shutil.copyfile(path, folder / subtype / f"{picture_name(subtype, number)}{path.suffix}")
    head = {"data_type": "mscoco", "data_subtype": subtype}
    asked = [{"image_id": numbers[q.image], "question": q.text, "question_id": _id(q)} for q in questions]
    answered = [
        {
            "question_id": _id(q),
            "image_id": numbers[q.image],
            "question_type": " ".join(q.text.lower().rstrip("?").split()[:2]),
            "answer_type": q.kind,
            "multiple_choice_answer": q.answer,
            "answers": [
                {"answer": a, "answer_confidence": "yes", "answer_id": i} for i, a in enumerate(q.answers, 1)
            ],
            "concept": q.concept,
        }
        for q in questions
    ]
    name = f"mscoco_{subtype}"
    _write(folder / f"v2_OpenEnded_{name}_questions.json", {**head, "task_type": "Open-Ended", "questions": asked})
    _write(folder / f"v2_{name}_annotations.json", {**head, "annotations": answered})


def write_captions(folder: Path, captions: Sequence[Caption]) -> None:
    """Write captions as a table :data:`TABLE`, with copies of their pictures, which are numbered anew.

    Raises:
        DataError: no captions.
    """
    if not captions:
        raise DataError("no captions", where=folder, expected="one at least")
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    names = {
        path: f"pictures/{number:07}{path.suffix}"
        for number, path in enumerate(dict.fromkeys(c.image for c in captions), 1)
    }
    for path, name in names.items():
        shutil.copyfile(path, folder / name)
    rows = [
        {"id": c.id, "path": names[c.image], "text": c.text, "concept": c.concept, "split": c.split}
        for c in captions
    ]
    write_text(folder / TABLE, "".join(json.dumps(row) + "\n" for row in rows))


def _id(question: Question) -> int | str:
    """The question's id as the published tools expect it: a whole number where it is one."""
    return int(question.id) if question.id.isdecimal() and str(int(question.id)) == question.id else question.id


def _write(path: Path, record: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(record))
