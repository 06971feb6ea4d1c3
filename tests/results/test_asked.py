"""What people ask a result about: tables, frames, folders and files, and a result that stands alone."""

from __future__ import annotations

import csv
import dataclasses
import json
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace

import fedgram
import numpy as np
import pandas as pd
import pytest
from fedgram import modalities
from fedgram.anchors import load_anchors
from fedgram.cli.main import app
from fedgram.config.job import AnchorPin
from fedgram.config.site import Columns, Reading
from fedgram.data.rows import Row
from fedgram.errors import CheckpointError, DataError
from fedgram.modalities import tabular
from fedgram.model.tasks.base import Prediction
from fedgram.results import trained
from fedgram.results.asked import read_asked
from fedgram.results.showing import words
from fedgram.results.trained import Trained
from fedgram.sites.opening import open_site
from site_data import FASTA, TABLE, TEXT, write_image
from toy import Toy
from typer.testing import CliRunner

READING = Reading(Columns(target="label", drop=("note",)))


def asked(modality: str, contents: object, reading: Reading = READING) -> dict[str, object]:
    """What is read, by id."""
    return {s.id: s.content for s in read_asked(modalities.load(modality), contents, reading, "x")}


def test_a_table_has_a_sample_in_each_row(tmp_path: Path):
    """Labels, groups and dropped columns are no features, and need not be there."""
    (tmp_path / "a.csv").write_text(TABLE)
    (tmp_path / "b.csv").write_text("mass,note,brain\n3.5,x,80\n,y,25\nNA,z,60\n")
    first, second = (asked("tabular", tmp_path / name) for name in ("a.csv", "b.csv"))
    assert [*first] == ["a", "b", "c"]
    assert [*second] == ["row 1", "row 2", "row 3"]
    assert [words(row) for row in first.values()] == [words(row) for row in second.values()]
    assert words(first["a"]) == "mass 3.5, brain 80"
    assert [*asked("tabular", [tmp_path / "a.csv", str(tmp_path / "b.csv")])][2:4] == [
        f"{tmp_path / 'a.csv'}: c",
        f"{tmp_path / 'b.csv'}: row 1",
    ]


def test_frames_and_dictionaries_are_tables(tmp_path: Path):
    """By the labels of their index, unless there is a column of ids."""
    (tmp_path / "a.csv").write_text(TABLE)
    frame = pd.read_csv(tmp_path / "a.csv")
    expected = [row.values for row in asked("tabular", tmp_path).values()]
    np.testing.assert_equal([row.values for row in asked("tabular", frame).values()], expected)
    indexed = frame.set_index("id").astype({"mass": "Float64"})
    assert [*asked("tabular", indexed)] == [*frame.id]
    assert [*asked("tabular", {"mass": 3.5, "brain": 80.0})] == ["0"]
    for table in ({"mass": np.array([1, 2]), "brain": [3, 4]}, [{"mass": 1, "brain": 3}, {"mass": 2, "brain": 4}]):
        assert [row.values for row in asked("tabular", table).values()] == [(1.0, 3.0), (2.0, 4.0)]
    assert asked("text", [{"text": "a cat"}, {"text": "a dog"}]) == {"0": "a cat", "1": "a dog"}


def test_texts_sequences_and_pictures(tmp_path: Path):
    (tmp_path / "t.csv").write_text(TEXT)
    (tmp_path / "t.txt").write_text("a cat\n")
    (tmp_path / "s.fasta").write_text(FASTA)
    assert asked("text", tmp_path / "t.csv")["b"] == "large cat"
    assert asked("text", [tmp_path / "t.txt", "a dog"]) == {str(tmp_path / "t.txt"): "a cat", "1": "a dog"}
    assert asked("genomics", tmp_path / "s.fasta")["b"] == "ACGTNNACGTACGATTACAGG"
    write_image(tmp_path / "in/x.png", 1)
    write_image(tmp_path / "in/deep/y.png", 2)
    (tmp_path / "p.csv").write_text("id,path\nX,in/x.png\n")
    seen = asked("image", tmp_path / "in", dataclasses.replace(READING, window=(0.0, 9.0)))
    assert [*seen] == [str(tmp_path / "in/deep/y.png"), str(tmp_path / "in/x.png")]
    assert {picture.window for picture in seen.values()} == {(0.0, 9.0)}
    assert words(asked("image", tmp_path / "p.csv")["X"]) == str(tmp_path / "in/x.png")
    assert words("a  long\ntext", 6) == "a lon…"


def test_a_word_that_is_the_name_of_a_folder_is_a_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "oedema").mkdir()
    monkeypatch.chdir(tmp_path)
    assert [*asked("text", "oedema").values()] == ["oedema"]


@pytest.mark.parametrize("modality", ["text", "genomics", "tabular"])
@pytest.mark.parametrize("name", ["new.{}", "folder/new.{}", "{home}/new.{}"])
def test_a_string_that_names_a_file_is_that_file(
    modality: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Alone and in a list, whatever a string is otherwise."""
    suffix, content = (
        ("fasta", FASTA) if modality == "genomics" else ("csv", TEXT if modality == "text" else TABLE)
    )
    (tmp_path / "folder").mkdir()
    for folder in (tmp_path, tmp_path / "folder"):
        (folder / f"new.{suffix}").write_text(content)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    name = name.format(suffix, home="~")
    expected = [*asked(modality, tmp_path / f"new.{suffix}").values()]
    assert len(expected) > 1
    for strings in (name, [name]):
        np.testing.assert_equal(
            [getattr(content, "values", content) for content in asked(modality, strings).values()],
            [getattr(content, "values", content) for content in expected],
        )


@pytest.mark.parametrize(
    "sequence", ["acgtACGTnn", "ACGUUGCA", "AC-GT.TG", "AC GT\nTTGA", "acguy-n.", "A" * 5000], ids=lambda s: s[:8]
)
def test_a_sequence_is_the_same_as_a_string_and_in_a_file(sequence: str, tmp_path: Path):
    (tmp_path / "s.fasta").write_text(f">s\n{sequence}\n")
    (expected,) = asked("genomics", tmp_path / "s.fasta").values()
    assert asked("genomics", sequence) == asked("genomics", [sequence]) == {"0": expected}
    assert set(expected) <= set("ACGTNY")


@pytest.mark.parametrize("text", [" a cat\n", "two\r\nlines", "a Ba\u0308r", "a long text, " * 500])
def test_a_text_is_the_same_as_a_string_and_in_a_file(text: str, tmp_path: Path):
    (tmp_path / "t.txt").write_bytes(text.encode())
    assert asked("text", text) == {"0": asked("text", tmp_path / "t.txt")[str(tmp_path / "t.txt")]}


@pytest.mark.parametrize(
    ("modality", "contents", "problem"),
    [
        ("text", ["a cat", " "], "content 1, which names no file: empty"),
        ("genomics", "", "content 0, .*: empty sequence"),
        ("genomics", "--", "content 0, .*: nothing but gaps"),
        ("genomics", "nowhere.fasta", "content 0, which names no file: a letter outside the IUPAC DNA alphabet"),
    ],
)
def test_strings_that_are_no_contents(modality: str, contents: object, problem: str):
    with pytest.raises(DataError, match=problem):
        asked(modality, contents)


def test_what_was_read_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A text of a table that is the name of a file stays a text: a table must not choose what is opened."""
    (tmp_path / "t.csv").write_text("id,text\na,secret.txt\n")
    (tmp_path / "secret.txt").write_text("of somebody else")
    monkeypatch.chdir(tmp_path)
    samples = read_asked(modalities.load("text"), "t.csv", READING, "x")
    assert [s.content for s in samples] == ["secret.txt"]
    for again in (samples, samples[0]):
        assert read_asked(modalities.load("text"), again, READING, "x") == samples


@pytest.mark.parametrize(
    ("modality", "files", "problem"),
    [
        ("text", {}, "new: an empty folder"),
        ("text", {"a.txt": " \n"}, r"a\.txt: empty\n  expected: a text"),
        ("text", {"a.csv": "words\nx\n"}, r"a\.csv: missing column 'text'.*in the site's own table"),
        ("image", {"a.csv": "id\nx\n"}, r"a\.csv: missing column 'path'"),
        ("image", {"a.png": "x"}, r"a\.png: unreadable image"),
        ("tabular", {"a.csv": "id\nx\n"}, r"a\.csv: no feature columns"),
    ],
)
def test_errors_speak_of_the_users_file(modality: str, files: dict, problem: str, tmp_path: Path):
    folder = tmp_path / "new"
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    with pytest.raises(DataError, match=f"(?s){problem}") as error:
        asked(modality, folder)
    assert "anchor" not in str(error.value)


def test_what_cannot_be_asked():
    with pytest.raises(DataError, match="no such file or folder"):
        asked("image", "/nowhere/x.png")
    with pytest.raises(DataError, match="DNA: a data frame"):
        asked("genomics", pd.DataFrame({"x": [1]}))
    with pytest.raises(DataError, match="x: nothing to look at"):
        asked("text", [])


@pytest.fixture
def kept(toy: Toy, tmp_path: Path) -> tuple[Path, Path]:
    """The result of a table's site (numbers and a category), and the table."""
    rows = [(f"r{i}", "ab"[i % 2], i % 2 * 3 + i / 20, ("red", "blue")[i % 2]) for i in range(40)]
    lines = [f"{name},{concept},{name},{value},{colour}" for name, concept, value, colour in rows]
    table = tmp_path / "data/table.csv"
    table.parent.mkdir()
    table.write_text("\n".join(["id,concept,group,size,colour", *lines]) + "\n")
    slots = []
    for i, (_, concept, value, colour) in enumerate(rows[:6]):
        file = tmp_path / f"anchors/{i}.csv"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"size,colour\n{value + 0.01},{colour}\n")
        facts = {"origin": "synthetic", "licence": "CC0-1.0", "source": "made in the test"}
        files = {"tabular": {"path": file.name, "sha256": sha256(file.read_bytes()).hexdigest(), **facts}}
        slots.append({"id": f"slot-{i}", "concept": concept, "files": files})
    manifest = {"format": 1, "name": "anchors", "slots": slots}
    (tmp_path / "anchors/manifest.json").write_text(json.dumps(manifest))
    pin = AnchorPin(load_anchors(tmp_path / "anchors").manifest_sha256, tuple("ababab"))
    job = dataclasses.replace(toy.job, anchors=pin, heldout=None)
    paths = {"data": str(table), "anchors": str(tmp_path / "anchors"), "cache": str(tmp_path / "cache")}
    config = dataclasses.replace(toy.sites["red"], modality="tabular", tokenizer="numeric", heldout=None, **paths)
    open_site("t", config, job).save(tmp_path / "result", {})
    return tmp_path / "result", table


def test_a_result_stands_alone(kept: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Its answers are the same after the data are gone; a tokenizer that keeps nothing says that it needs them."""
    result, table = kept
    new = {"size": [0.5, 3.5], "colour": ["blue", "red"]}
    before = fedgram.load(result).predict(new)
    table.rename(tmp_path / "elsewhere.csv")
    model = fedgram.load(result)
    assert [answer.scores for answer in model.predict(new)] == [answer.scores for answer in before]
    with pytest.raises(DataError, match=r"table\.csv: no such file"):
        model.site.samples("test")
    (result / "statistics.json").write_text("[null]")
    with pytest.raises(
        CheckpointError, match=r"(?s)t: its tokenizer reads the training data again.*put the data back"
    ):
        fedgram.load(result)
    for text in ("[", "[{}, {}]"):
        (result / "statistics.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"statistics\.json: damaged"):
            fedgram.load(result)


def test_a_table_is_scored_by_one_command(kept: tuple[Path, Path], tmp_path: Path):
    result, table = kept
    done = CliRunner().invoke(app, ["predict", str(result), str(table), "--out", str(tmp_path / "out.csv")])
    assert done.exit_code == 0, done.output
    rows = [*csv.reader((tmp_path / "out.csv").read_text().splitlines())]
    assert rows[0] == ["id", "prediction", "p(a)", "p(b)"]
    assert [row[0] for row in rows[1:]] == [f"r{i}" for i in range(40)]
    answers = fedgram.load(result).predict(table)
    for (_, value, *scores), answer in zip(rows[1:], answers, strict=True):
        assert value == answer.value
        assert [float(score) for score in scores] == [*answer.scores.values()]


@pytest.mark.parametrize("channel", ["the API", "the command"])
def test_categories_that_no_training_row_has_are_told_once(
    channel: str, kept: tuple[Path, Path], caplog: pytest.LogCaptureFixture, tmp_path: Path
):
    (tmp_path / "new.csv").write_text("size,colour\n1,green\n2,red\n3,Red\n")
    if channel == "the API":
        fedgram.load(kept[0]).predict(tmp_path / "new.csv")
    else:
        done = CliRunner().invoke(app, ["predict", str(kept[0]), str(tmp_path / "new.csv")])
        assert done.exit_code == 0, done.output
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "t: categories that are not known from the training rows count as unknown: colour in 2 of 3 rows"
    ]


def test_a_file_has_all_digits_of_a_number_and_the_console_six(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "rows.csv").write_text("size\n1\n")
    model = SimpleNamespace(
        read=lambda files: read_asked(modalities.load("tabular"), files, READING, "x"),
        predict=lambda samples: [Prediction(1234567.25) for sample in samples if sample.id],  # as they were read
    )
    monkeypatch.setattr(trained, "load", lambda folder: model)
    asking = ["predict", "result", str(tmp_path / "rows.csv"), "--out", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(app, asking)
    assert done.exit_code == 0, done.output
    assert "1.23457e+06" in done.output
    assert (tmp_path / "out.csv").read_text() == "id,prediction\nrow 1,1234567.25\n"


def test_cells_in_words_have_six_digits_where_there_is_no_room():
    row = Row(("code", "size"), ("73211009", 1234567.25), "")
    assert words(row) == "code 73211009, size 1234567.25"
    assert words(row, 60) == "code 73211009, size 1.23457e+06"


def test_what_is_found_is_shown(kept: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Rows with their cells, also in a file; concepts by the labels of a result, told from a folder of data."""
    result, table = kept
    asking = [str(result), str(result), str(table), "--out", str(tmp_path / "out.csv")]
    done = CliRunner().invoke(app, ["retrieve", *asking, "-k", "2"])
    assert done.exit_code == 0, done.output
    assert "colour blue" in done.output
    found = [*csv.DictReader((tmp_path / "out.csv").read_text().splitlines())]
    assert len(found) == 80
    known = {s.id: s for s in fedgram.load(result).site.samples("test")}
    assert all(words(known[row["sample"]].content) == row["content"] for row in found)
    done = CliRunner().invoke(app, ["classify", *asking[:2], str(table.parent), *asking[3:]])
    assert done.exit_code == 0, done.output
    assert {row["concept"] for row in csv.DictReader((tmp_path / "out.csv").read_text().splitlines())} <= {
        "a",
        "b",
    }


def test_an_own_modality_reads_its_own_files(finished: Path, tmp_path: Path):
    red: Trained = fedgram.load(finished, site="red")
    contents = [s.content for s in red.site.samples("test")[:2]]
    for i, content in enumerate(contents):
        np.savetxt(tmp_path / f"{i}.csv", content[None], delimiter=",")
    assert [s.id for s in red.read(tmp_path)] == [str(tmp_path / "0.csv"), str(tmp_path / "1.csv")]
    assert [s.id for s in red.read(contents)] == ["0", "1"]
    with pytest.raises(DataError, match="red: a data frame"):
        red.read(pd.DataFrame({"x": [1]}))


def test_the_last_statistics_are_those_of_the_training_rows():
    """Two rows, one category: hand-worked."""
    rows = [tabular.Row(("a", "b"), (1.0, "x"), ""), tabular.Row(("a", "b"), (3.0, "y"), "")]
    assert tabular.NumericTokens(rows).statistics == {
        "columns": ["a", "b"],
        "scales": [[False, 2.0, 1.0], [False, 0.0, 1.0]],
        "categories": {"b": ["x", "y"]},
    }
