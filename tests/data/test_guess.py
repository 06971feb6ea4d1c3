"""What is told from somebody's file, and where its owner is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fedgram.config.site import Reading
from fedgram.data.guess import Guess, Undecided, understand
from fedgram.data.rows import read_table_samples
from fedgram.errors import ConfigError, DataError
from PIL import Image

N = 40
KIND = ["wolf", "lynx"] * (N // 2)
NOTES = [f"the animal number {i} was seen near the river" for i in range(N)]
AGE = list(range(N))
SHARES = [i / 7 for i in AGE]


def table(path: Path, **columns: list) -> Path:
    pd.DataFrame(columns).to_csv(path, index=False)
    return path


def test_a_table_of_numbers(tmp_path: Path):
    path = table(
        tmp_path / "a.csv", barcode=[f"C{i}" for i in range(N)], kind=KIND, age=AGE, note=NOTES, empty=[""] * N
    )
    found = understand(path, "tabular")
    assert found.columns.concept == found.label == "kind"
    assert (found.columns.id, found.columns.group) == ("barcode", "id")
    assert [s.group for s in read_table_samples(path, Reading(columns=found.columns))[:2]] == ["C0", "C1"]
    assert found.columns.drop == ("note", "empty")
    assert found.features == ("age",)
    told = " ".join(found.notes)
    for words in (
        "label: kind (the only one that can be it)",
        "group: none was found",
        "no features: note",
    ):
        assert words in told


def test_texts_and_patients_by_name(tmp_path: Path):
    found = understand(table(tmp_path / "a.csv", Diagnosis=KIND, Patient_ID=AGE, report=NOTES, ward=KIND))
    assert found == Guess(modality="text", columns=found.columns, notes=found.notes)
    assert (found.columns.concept, found.columns.group, found.columns.text) == (
        "Diagnosis",
        "Patient_ID",
        "report",
    )


@pytest.mark.parametrize(
    ("label", "task"),
    [
        ([i / 7 for i in range(N)], "regression"),
        ([i % 3 for i in range(N)], "classification"),
        (["a|b", "b", "a"] * 13 + ["a"], "multilabel"),
        (["a; b", "b", "a"] * 13 + ["a"], "multilabel"),
        (["life;a", "life;b"] * 20, "classification"),
    ],
)
def test_the_task_is_what_the_label_holds(label: list, task: str, tmp_path: Path):
    found = understand(table(tmp_path / "a.csv", label=label, age=AGE))
    assert found.task == task
    assert (found.columns.concept if task == "classification" else found.columns.target) == "label"


def test_counts_of_many_genes_are_no_labels(tmp_path: Path):
    """But one of yes or no beside them may be."""
    genes = {f"gene_{i}": [(i * j) % 5 for j in AGE] for i in range(1, 60) if i % 5}
    assert understand(table(tmp_path / "a.csv", kind=KIND, **genes)).label == "kind"
    with pytest.raises(Undecided, match="2 columns may be the label") as caught:
        understand(table(tmp_path / "b.csv", kind=KIND, died=[i % 2 for i in AGE], **genes))
    assert caught.value.choices == ("kind", "died")


@pytest.mark.parametrize(
    ("columns", "label", "told"),
    [
        ({"died": [i % 2 for i in AGE], "age": AGE}, "died", "classification into 2 classes"),
        ({"x": SHARES, "y": SHARES, "same": [1] * N}, "y", "regression"),
        ({"x": SHARES, "y": [i % 3 for i in AGE]}, "y", "classification into 3 classes"),
        ({"target": [0] * 450 + SHARES, "age": [*range(490)]}, "target", "regression"),
        ({"kind": ["wolf"] * 450 + ["lynx"] * 450, "age": [*range(900)]}, "kind", "classification into 2 classes"),
    ],
)
def test_every_cell_of_a_label_is_looked_at(columns: dict, label: str, told: str, tmp_path: Path):
    """Those of a sorted table are alike for long; and what is made of it is always said."""
    found = understand(table(tmp_path / "a.csv", **columns))
    assert found.label == label
    assert f"task: {told}, by what column {label} holds" in found.notes
    assert "task: classification into" in " ".join(
        understand(tmp_path / "a.csv", hints={"task": "classification"}).notes
    )


def test_images_by_folder_and_by_table(tmp_path: Path):
    for name in KIND[:2]:
        (tmp_path / "scans" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "scans" / name / "1.png")
    assert understand(tmp_path / "scans").modality == "image"
    found = understand(table(tmp_path / "a.csv", kind=KIND, photo=[f"{i}.png" for i in AGE]))
    assert (found.modality, found.columns.path) == ("image", "photo")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match="no images or recordings in the folder"):
        understand(tmp_path / "nothing")


def test_dna_with_a_table_beside_it(tmp_path: Path):
    (tmp_path / "a.fa.gz").write_bytes(b"")
    table(tmp_path / "a.csv", accession=[f"S{i}" for i in AGE], species=KIND, donor=[i // 2 for i in AGE])
    found = understand(tmp_path / "a.fa.gz")
    assert (found.modality, found.columns.id, found.columns.group) == ("genomics", "accession", "donor")


@pytest.mark.parametrize(
    ("columns", "what", "choices"),
    [
        ({"kind": KIND, "ward": KIND, "age": AGE}, "label", ("kind", "ward")),
        ({"label": KIND, "target": AGE, "age": AGE}, "label", ("label", "target")),
        ({"age": AGE, "size": AGE}, "label", ("age", "size")),
        ({"sex": KIND, "died": [i % 2 for i in AGE], "age": AGE}, "label", ("sex", "died")),
        ({"x": SHARES, "y": SHARES, "area": SHARES, "kind": KIND}, "label", ("y", "kind")),
        ({"kind": KIND, "patient": AGE, "donor": AGE, "age": AGE}, "group", ("patient", "donor")),
        ({"kind": KIND, "note": NOTES, "report": NOTES}, "text", ("note", "report")),
        ({"kind": KIND, "note": NOTES, "age": AGE, "size": AGE}, "modality", ("text", "tabular")),
    ],
)
def test_a_choice_is_the_owners(columns: dict, what: str, choices: tuple[str, ...], tmp_path: Path):
    path = table(tmp_path / "a.csv", **columns)
    with pytest.raises(Undecided) as caught:
        understand(path)
    assert (caught.value.what, caught.value.choices) == (what, choices)
    said = f"before the path: text:{path}" if what == "modality" else f"--{what} COLUMN"
    assert said in str(caught.value)
    if what == "modality":
        assert understand(path, "tabular").features == ("age", "size")
        assert understand(path, "text").columns.text == "note"
    else:
        found = understand(path, hints={what: choices[1]})
        assert choices[1] in (found.label, found.columns.group, found.columns.text)


def test_hints_and_files_that_are_not_there(tmp_path: Path):
    path = table(tmp_path / "a.csv", kind=KIND, age=AGE)
    with pytest.raises(ConfigError, match="no column 'sort'"):
        understand(path, hints={"label": "sort"})
    with pytest.raises(DataError, match="no such file or folder"):
        understand(tmp_path / "b.csv")


def test_a_wide_table_is_told_by_its_first_rows(tmp_path: Path):
    wide = {f"g{i}": AGE for i in range(900)}
    assert len(understand(table(tmp_path / "a.csv", kind=KIND, **wide)).features) == 900


def test_recordings_by_folder_and_by_table(tmp_path: Path):
    (tmp_path / "calls" / "wolf" / "p1").mkdir(parents=True)
    (tmp_path / "calls" / "wolf" / "p1" / "1.FLAC").touch()
    found = understand(tmp_path / "calls")
    assert found.modality == "audio"
    assert "a folder of recordings" in found.notes[0]
    found = understand(table(tmp_path / "a.csv", kind=KIND, call=[f"calls/{i}.wav" for i in AGE]))
    assert (found.modality, found.columns.path) == ("audio", "call")
    with pytest.raises(DataError, match="no images in the folder"):
        understand(tmp_path / "calls", "image")


VISITS = [1000 + i // 4 for i in range(N)]


@pytest.mark.parametrize(
    "name",
    [
        *("record_id", "pid", "sample_id", "ID", "SampleID", "USUBJID", "Patient No"),
        *("Pat.-Nr.", "PatientenNr", "Fallnummer", "N° patient", "Numéro de dossier", "IPP"),
    ],
)
@pytest.mark.parametrize("ids", [VISITS, [f"S{i}" for i in VISITS], [*range(600), *range(600)]])
def test_an_id_of_several_rows_may_be_the_patient(name: str, ids: list, tmp_path: Path):
    """Also where all first visits come before all second ones; whatever is said, it is no feature."""
    rest = {"kind": [KIND[0]] * (len(ids) // 2) + [KIND[1]] * (len(ids) // 2), "age": [*range(len(ids))]}
    path = table(tmp_path / "a.csv", **{name: ids}, **rest)
    with pytest.raises(Undecided, match=f"{name}: named like an id, and several rows have one") as caught:
        understand(path)
    assert (caught.value.what, caught.value.choices) == ("group", (name,))
    assert "say --group COLUMN" in str(caught.value)
    for group in (name, "id"):
        found = understand(path, hints={"group": group})
        assert (found.columns.group, found.features) == (group, ("age",))
    found = understand(table(tmp_path / "b.csv", donor=[*range(len(ids))], **{name: ids}, **rest))
    assert (found.columns.group, found.features, found.columns.drop) == ("donor", ("age",), (name,))


@pytest.mark.parametrize("name", ["thyroid", "lipid", "body_mass_index", "charlson_index", "Fallzahl"])
def test_a_measure_is_no_id(name: str, tmp_path: Path):
    for cells in ([i % 7 + 20 for i in AGE], [i / 7 for i in AGE]):
        found = understand(table(tmp_path / "a.csv", kind=KIND, **{name: cells}), hints={"label": "kind"})
        assert (found.columns.group, found.features) == ("id", (name,))


def test_a_column_id_that_repeats_is_no_id_of_rows(tmp_path: Path):
    columns = {"id": VISITS, "kind": KIND, "age": AGE}
    path = table(tmp_path / "a.csv", **columns)
    with pytest.raises(Undecided, match="id: named like an id"):
        understand(path)
    with pytest.raises(DataError, match="rename it patient"):
        understand(path, hints={"group": "id"})
    found = understand(table(tmp_path / "b.csv", barcode=[f"B{i}" for i in AGE], **columns), hints={"group": "id"})
    assert (found.columns.id, found.columns.group) == ("barcode", "id")
    assert "group: id (as said: its rows stay on one side of the split)" in found.notes
    assert read_table_samples(tmp_path / "b.csv", Reading(columns=found.columns))[5].group == "1001"


def test_an_id_that_repeats_makes_no_table_of_numbers(tmp_path: Path):
    path = table(tmp_path / "a.csv", record_id=VISITS, kind=KIND, note=NOTES)
    assert understand(path, hints={"group": "record_id"}).modality == "text"


PARTS = ["Train", "test", "val", "train"] * (N // 4)


@pytest.mark.parametrize("name", ["split", "Split", "SPLIT", "set", "Partition"])
def test_a_split_of_the_owner_is_taken(name: str, tmp_path: Path):
    path = table(tmp_path / "a.csv", kind=KIND, age=AGE, **{name: PARTS})
    found = understand(path)
    assert (found.columns.split, found.features) == (name, ("age",))
    assert f"split: {name} (every row is in the one that it names)" in found.notes
    samples = read_table_samples(path, Reading(columns=found.columns))
    assert [s.split for s in samples[:4]] == ["train", "test", "validation", "train"]
    path = table(tmp_path / "b.csv", kind=KIND, age=AGE, split=[*PARTS[:-1], "tset"])
    with pytest.raises(DataError, match=f"row {N}: column 'split' does not name a split"):
        understand(path)


def test_two_splits_of_the_owner(tmp_path: Path):
    with pytest.raises(DataError, match="2 columns name train, validation and test: fold, set"):
        understand(table(tmp_path / "a.csv", kind=KIND, age=AGE, fold=PARTS, set=PARTS))


@pytest.mark.parametrize("name", ["split", "Split"])
def test_a_split_of_something_else_is_a_column_like_others(name: str, tmp_path: Path):
    path = table(tmp_path / "a.csv", kind=KIND, age=AGE, **{name: SHARES})
    found = understand(path)
    assert (found.columns.split, found.features) == ("", ("age", name))
    assert f"column {name} names neither train, validation nor test" in " ".join(found.notes)
    assert read_table_samples(path, Reading(columns=found.columns))[0].content.columns == ("age", name)
    with pytest.raises(Undecided, match="2 columns may be the label"):
        understand(table(tmp_path / "b.csv", kind=KIND, **{name: KIND}))
