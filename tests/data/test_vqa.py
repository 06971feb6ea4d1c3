"""VQA v2's published format: a file worked by hand, every fault, and the way there and back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fedgram.data.items import Question
from fedgram.data.vqa import read_vqa
from fedgram.errors import DataError
from PIL import Image

from research.partition.writing import write_vqa

TEN = ["net", "net", "net", "netting", "net", "net", "mesh", "net", "net", "net"]


def records() -> tuple[dict[str, Any], dict[str, Any]]:
    """As they stand in v2_OpenEnded_mscoco_val2014_questions.json and v2_mscoco_val2014_annotations.json."""
    head = {"info": {"year": 2017, "version": "2.0"}, "data_type": "mscoco", "data_subtype": "val2014"}
    questions = [
        {"image_id": 262148, "question": "What is he on?", "question_id": 262148000},
        {"image_id": 262148, "question": "How many people?", "question_id": 262148001},
    ]
    annotations = [
        {
            "question_type": "how many",
            "multiple_choice_answer": "2",
            "answers": [{"answer": "2", "answer_confidence": "yes", "answer_id": i} for i in range(1, 11)],
            "image_id": 262148,
            "answer_type": "number",
            "question_id": 262148001,
        },
        {
            "question_type": "what is",
            "multiple_choice_answer": "net",
            "answers": [{"answer": a, "answer_confidence": "maybe", "answer_id": i} for i, a in enumerate(TEN, 1)],
            "image_id": 262148,
            "answer_type": "other",
            "question_id": 262148000,
        },
    ]
    return {**head, "task_type": "Open-Ended", "questions": questions}, {**head, "annotations": annotations}


def written(folder: Path, questions: dict[str, Any], annotations: dict[str, Any], place: str = "val2014") -> Path:
    subtype = questions.get("data_subtype", "x")
    (folder / place).mkdir(parents=True, exist_ok=True)
    (folder / f"v2_OpenEnded_mscoco_{subtype}_questions.json").write_text(json.dumps(questions))
    (folder / f"v2_mscoco_{subtype}_annotations.json").write_text(json.dumps(annotations))
    Image.new("RGB", (4, 4)).save(folder / place / f"COCO_{subtype}_000000262148.jpg")
    return folder


@pytest.mark.parametrize("place", ["val2014", "."])
def test_a_published_file_is_read(tmp_path, place):
    folder = written(tmp_path, *records(), place)
    image = folder / place / "COCO_val2014_000000262148.jpg"
    assert read_vqa(folder) == [
        Question(
            id="262148000", image=image, text="What is he on?", answers=tuple(TEN), answer="net", kind="other"
        ),
        Question(
            id="262148001", image=image, text="How many people?", answers=("2",) * 10, answer="2", kind="number"
        ),
    ]


def test_without_a_most_frequent_answer_it_is_found(tmp_path):
    questions, annotations = records()
    del annotations["annotations"][1]["multiple_choice_answer"]
    assert read_vqa(written(tmp_path, questions, annotations))[0].answer == "net"


def test_some_people_say_nothing(tmp_path):
    questions, annotations = records()
    annotations["annotations"][1]["answers"][0]["answer"] = ""
    assert read_vqa(written(tmp_path, questions, annotations))[0].answers[0] == ""


def of_subtype(subtype: str, first: int) -> tuple[dict[str, Any], dict[str, Any]]:
    questions, annotations = records()
    for record in (questions, annotations):
        record["data_subtype"] = subtype
    for entry in (*questions["questions"], *annotations["annotations"]):
        entry["question_id"] += first
    return questions, annotations


def test_several_subtypes_are_a_split(tmp_path):
    written(tmp_path, *of_subtype("train2014", 0), "train2014")
    written(tmp_path, *of_subtype("val2014", 10), "val2014")
    assert [q.split for q in read_vqa(tmp_path)] == ["train", "train", "test", "test"]
    written(tmp_path, *of_subtype("test2014", 20), "test2014")
    assert sorted(q.split for q in read_vqa(tmp_path)) == ["test"] * 2 + ["train"] * 2 + ["validation"] * 2


def test_subtypes_that_say_no_split_are_refused(tmp_path):
    written(tmp_path, *of_subtype("train2014", 0), "train2014")
    written(tmp_path, *of_subtype("mine", 10), "mine")
    with pytest.raises(DataError, match="begin with train"):
        read_vqa(tmp_path)


def test_ids_are_unique_over_the_files(tmp_path):
    written(tmp_path, *of_subtype("train2014", 0), "train2014")
    written(tmp_path, *of_subtype("val2014", 0), "val2014")
    with pytest.raises(DataError, match="two files"):
        read_vqa(tmp_path)


def drop(name: str) -> Callable[[dict[str, Any], dict[str, Any]], None]:
    return lambda q, a: a["annotations"][1].pop(name)


FAULTS: dict[str, tuple[Callable[[dict[str, Any], dict[str, Any]], object], str]] = {
    "no questions": (lambda q, a: (q["questions"].clear(), a["annotations"].clear()), "no questions"),
    "no list": (lambda q, a: q.update(questions=3), "no list of objects"),
    "no subtype": (lambda q, a: q.pop("data_subtype"), "data_subtype"),
    "other subtype": (lambda q, a: a.update(data_subtype="train2014"), "a pair of files"),
    "missing annotation": (lambda q, a: a["annotations"].pop(), "1 questions without annotation, 0"),
    "missing question": (lambda q, a: q["questions"].pop(), "0 questions without annotation, 1"),
    "twice": (lambda q, a: q["questions"].append(q["questions"][0]), "question 3.*\n?.*repeats|repeats"),
    "annotated twice": (lambda q, a: a["annotations"].append(a["annotations"][0]), "repeats"),
    "other picture": (lambda q, a: a["annotations"][1].update(image_id=5), "another picture"),
    "no picture": (
        lambda q, a: (q["questions"][0].update(image_id=5), a["annotations"][1].update(image_id=5)),
        "picture is missing",
    ),
    "no image id": (lambda q, a: q["questions"][0].pop("image_id"), "'image_id'"),
    "no question id": (lambda q, a: q["questions"][0].update(question_id=True), "'question_id'"),
    "no text": (lambda q, a: q["questions"][0].update(question=""), "'question'"),
    "no answers": (lambda q, a: a["annotations"][1]["answers"].clear(), "no answers"),
    "answers without words": (lambda q, a: a["annotations"][1]["answers"][2].update(answer=7), "no answers"),
    "no answer list": (drop("answers"), "'answers'"),
    "no kind": (drop("answer_type"), "'answer_type'"),
    "answer no text": (lambda q, a: a["annotations"][1].update(multiple_choice_answer=7), "no text"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_named(tmp_path, name):
    questions, annotations = records()
    spoil, message = FAULTS[name]
    spoil(questions, annotations)
    (tmp_path / "q_questions.json").write_text(json.dumps(questions))
    (tmp_path / "a_annotations.json").write_text(json.dumps(annotations))
    Image.new("RGB", (4, 4)).save(tmp_path / "COCO_val2014_000000262148.jpg")
    with pytest.raises(DataError, match=message) as error:
        read_vqa(tmp_path)
    assert not any(secret in str(error.value) for secret in ("What is he", "netting", "262148000"))


def test_faults_of_the_folder(tmp_path):
    with pytest.raises(DataError, match="no such folder"):
        read_vqa(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no questions"):
        read_vqa(tmp_path)
    (tmp_path / "x_questions.json").write_text("secret words")
    with pytest.raises(DataError, match="not a JSON object") as error:
        read_vqa(tmp_path)
    assert "secret" not in str(error.value)


def test_two_files_of_one_subtype_or_picture(tmp_path):
    folder = written(tmp_path, *records())
    Image.new("RGB", (4, 4)).save(folder / "val2014" / "COCO_val2014_000000262148.png")
    with pytest.raises(DataError, match="two files for one picture"):
        read_vqa(folder)
    (folder / "more_questions.json").write_text(json.dumps(records()[0]))
    with pytest.raises(DataError, match="two files of the subtype"):
        read_vqa(folder)


def test_there_and_back(tmp_path):
    asked = read_vqa(written(tmp_path / "one", *records()))
    write_vqa(tmp_path / "two", "train", [replace(q, concept="net") for q in asked])
    again = read_vqa(tmp_path / "two")
    assert [replace(q, image=asked[0].image, concept="") for q in again] == asked
    assert {q.concept for q in again} == {"net"}
    assert {q.image.read_bytes() for q in again} == {asked[0].image.read_bytes()}
    note = json.loads((tmp_path / "two" / "v2_mscoco_train_annotations.json").read_text())["annotations"][0]
    assert note["question_id"] == 262148000  # a number, as published tools expect
    assert note["answers"][3] == {"answer": "netting", "answer_confidence": "yes", "answer_id": 4}


def test_nothing_cannot_be_written(tmp_path):
    with pytest.raises(DataError, match="no questions"):
        write_vqa(tmp_path, "train", [])
