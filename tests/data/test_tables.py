"""The same table in every format that people have."""

from __future__ import annotations

import dataclasses
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from fedgram import modalities
from fedgram.config.site import Columns, Reading
from fedgram.data.rows import Row, category, read_rows, read_table_samples
from fedgram.data.tables import from_frame, read_table
from fedgram.errors import DataError
from fedgram.modalities.columns import gaussian
from fedgram.records import Sample

SECRET = "Xq77"
TABLE = pd.DataFrame(
    {
        "id": ["p1-a", "p1-b", "p2-a"],
        "concept": ["flu", "cold", "flu"],
        "group": [1, 1, 2],
        "age": [3, None, 61],
        "sex": ["f", "m", None],
        "fever": [True, False, True],
    }
).convert_dtypes()


def write(name: str, folder: Path) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        TABLE.to_parquet(path)
    elif ".jsonl" in name:
        TABLE.to_json(path, orient="records", lines=True)
    else:
        TABLE.to_csv(path, index=False, sep={"t": "\t", "s": ";"}.get(name[0], ","))
    return path


@pytest.mark.parametrize(
    "name", ["a.csv", "a.csv.gz", "t.tsv", "s.csv", "a.parquet", "a.jsonl", "a.jsonl.gz", "unknown.txt"]
)
def test_every_format_gives_the_same_samples(name: str, tmp_path: Path):
    samples = read_table_samples(write(name, tmp_path))
    assert [(s.id, s.concept, s.group) for s in samples] == [
        ("p1-a", "flu", "1"),
        ("p1-b", "cold", "1"),
        ("p2-a", "flu", "2"),
    ]
    assert samples[2].source == f"{tmp_path / name}, row 3"
    rows = [s.content for s in samples]
    assert rows[0].columns == ("age", "sex", "fever")
    assert repr(rows[0].values[:2]) == "(3.0, 'f')"
    assert repr(rows[1].values[:2]) == "(nan, 'm')"
    assert repr(rows[2].values[1]) == "nan"
    assert [row.values[2] for row in rows] == ["True", "False", "True"]


def test_a_damaged_table_is_named_and_not_quoted(tmp_path: Path):
    for name, content in {
        "a.parquet": SECRET.encode(),
        "a.csv.gz": gzip.compress(SECRET.encode() * 1000)[:-12],
        "a.jsonl": f'{{"id": "{SECRET}'.encode(),
        "b.jsonl": f'["{SECRET}"]\n'.encode(),
        "latin.csv": "id,text\nä,ö\n".encode("latin-1"),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}: not a readable table") as caught:
            read_table(tmp_path / name)
        assert SECRET not in str(caught.value)


def test_without_pyarrow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write("a.parquet", tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"(?s)pyarrow is not installed.*fedgram\[formats\]"):
        read_table(path)


def texts(path: Path, **columns: object) -> list[Sample]:
    task = columns.pop("task", "classification")
    return modalities.load("text").read(path, Reading(Columns(**columns), task))  # type: ignore[arg-type]


def test_columns_have_the_names_that_people_gave_them(tmp_path: Path):
    (tmp_path / "a.csv").write_text("PatientNr,Befund,Diagnose\n17,clear,flu\n17,cough,cold\n")
    samples = texts(tmp_path / "a.csv", group="PatientNr", text="Befund", concept="Diagnose")
    assert samples == [
        Sample(id="row 1", concept="flu", group="17", content="clear", target="flu"),
        Sample(id="row 2", concept="cold", group="17", content="cough", target="cold"),
    ]


def test_a_row_may_be_a_group(tmp_path: Path):
    (tmp_path / "a.csv").write_text("text,concept\nx,flu\ny,cold\n")
    assert [s.group for s in texts(tmp_path / "a.csv", group="id")] == ["row 1", "row 2"]
    with pytest.raises(DataError, match=r'(?s)missing column \'group\'.*patient.*group = "id"'):
        texts(tmp_path / "a.csv")


def test_a_missing_column_says_what_to_write_and_not_what_is_there(tmp_path: Path):
    (tmp_path / "headless.csv").write_text(f"{SECRET},1,flu\n{SECRET},2,cold\n")
    with pytest.raises(DataError, match=r"(?s)headless\.csv: missing column 'group'.*\[columns\]") as caught:
        texts(tmp_path / "headless.csv")
    assert SECRET not in str(caught.value)
    (tmp_path / "a.csv").write_text("group,concept,text\n1,a,x\n")
    for column in ("id", "text", "concept", "split", "target"):
        with pytest.raises(DataError, match=rf"(?s)a\.csv: missing column 'X'.*`{column} = …` under \[columns\]"):
            texts(tmp_path / "a.csv", **{column: "X"})


def test_targets(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(
        "id,group,text,target,days,one,two\n1,1,x,a|b,2.5,1,0\n2,2,y,,-1,0,0\n3,3,z,b; c,3e2,true,1.0\n"
    )

    def targets(**columns: object) -> list:
        return [s.target for s in texts(path, **columns)]

    assert targets(task="multilabel") == [("a", "b"), (), ("b", "c")]
    assert targets(task="multilabel", targets=("two", "one")) == [("one",), (), ("one", "two")]
    assert targets(task="regression", target="days") == [2.5, -1.0, 300.0]
    assert targets(target="one") == ["1", "0", "true"]
    assert {s.concept for s in texts(path, task="regression", target="days")} == {""}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"task": "regression"}, r"a\.csv, row 1 and 1 more: column 'target' is not a number"),
        ({"task": "multilabel", "targets": ("target",)}, "row 1 and 2 more: column 'target' is neither 0 nor 1"),
        ({"target": "blank"}, "row 2: column 'blank' is blank"),
        ({"split": "target"}, "row 1 and 2 more: column 'target' does not name a split"),
        ({"id": "group"}, r"a\.csv: duplicate id: row 3 repeats row 1"),
    ],
)
def test_wrong_cells_are_named_by_row(columns: dict, message: str, tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text(f"group,text,concept,target,blank\n1,x,a,{SECRET},a\n2,y,b,2,\n1,z,a,inf,b\n")
    with pytest.raises(DataError, match=message) as caught:
        texts(path, **columns)
    assert SECRET not in str(caught.value)


def test_splits_of_the_data(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("group,text,concept,fold\n1,x,a,Training\n2,y,b,val\n3,z,a,TEST\n")
    assert [s.split for s in texts(path, split="fold")] == ["train", "validation", "test"]
    path.write_text(path.read_text().replace("fold", "split"))
    assert [s.split for s in texts(path)] == ["train", "validation", "test"]
    assert [s.split for s in texts(path, split="")] == ["", "", ""]


def rows(tmp_path: Path, content: str, **columns: object) -> list[Row]:
    (tmp_path / "t.csv").write_text(content)
    reading = Reading(Columns(**columns))  # type: ignore[arg-type]
    return [s.content for s in read_table_samples(tmp_path / "t.csv", reading)]


def test_labels_and_dropped_columns_are_no_features(tmp_path: Path):
    content = ",name,patient,concept,split,age\n0,Ann,1,a,train,3\n1,Bob,2,b,test,4\n"
    (row, _) = rows(tmp_path, content, group="patient", drop=("name",))
    assert (row.columns, row.values) == (("age",), (3.0,))  # nor is the column of row numbers that pandas writes


def test_numbers_and_categories(tmp_path: Path):
    content = "id,group,concept,stage,sex,mixed\n1,1,a,1,f,7\n2,2,a,2.0,NA,high\n3,3,b,,m,8\n4,4,b,1,f,9\n"
    with pytest.raises(DataError, match=r"(?s)row 2: column 'mixed' is not a number.*categories"):
        rows(tmp_path, content)
    found = rows(tmp_path, content, categories=("stage", "mixed"))
    assert [repr(row.values) for row in found] == [
        "('1', 'f', '7')",
        "('2', nan, 'high')",
        "(nan, 'm', '8')",
        "('1', 'f', '9')",
    ]
    with pytest.raises(DataError, match="missing column 'nowhere'"):
        rows(tmp_path, content, categories=("nowhere",))


CODES = {
    "73211009": "73211009",  # SNOMED CT: with six digits it would be that of 73211011
    "1234567.0": "1234567",
    "0.1234567": "0.1234567",
    "7.50": "7.5",
    "999000011000000103": "999000011000000103",  # of the United Kingdom: no float64 has it
}


def test_codes_keep_all_their_digits(tmp_path: Path):
    content = "".join(f"{i},{i},a,{code}\n" for i, code in enumerate(CODES))
    found = rows(tmp_path, f"id,group,concept,dx\n{content}", categories=("dx",))
    assert [row.values[0] for row in found] == [*CODES.values()]
    assert category(73211009.0) == "73211009"  # a column of names in training, of which somebody asks about a code


@pytest.mark.parametrize("words", [("TRUE", "FALSE"), ("true", "false"), ("True", "False"), (True, False)])
@pytest.mark.parametrize("missing", [None, "maybe"])
def test_truth_has_one_spelling(words: tuple, missing: str | None, tmp_path: Path):
    """As R, pandas, JSON and Parquet write it, and in a frame that pandas has read from any of them."""
    cells = [*words, missing, words[0]]
    expected = ["True", "False", math.nan if missing is None else missing, "True"]
    table = pd.DataFrame({"smoker": cells, "size": range(4)})
    table.to_csv(tmp_path / "t.csv", index=False)
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    table.astype({"smoker": "string"}).to_parquet(tmp_path / "t.parquet")
    read = {name: read_table(tmp_path / name) for name in ("t.csv", "t.jsonl", "t.parquet")}
    read["frame"] = from_frame(pd.read_csv(tmp_path / "t.csv"), Path("frame"))
    for name, cells_read in read.items():
        values = [row.values[0] for row in read_rows(Path(name), cells_read)]
        np.testing.assert_equal(values, expected)


def test_a_tokenizer_from_before_knows_truth_in_its_own_spelling():
    """Its code of a category comes from the name that its training rows had."""
    statistics = {
        "columns": ["smoker"],
        "scales": [[False, 0.0, 1.0]],
        "categories": {"smoker": ["FALSE", "TRUE"]},
    }
    tokenizer = modalities.load("tabular").tokenizer("numeric", [], statistics)
    yes, no, other = ([Row(("smoker",), (value,), "")] for value in ("True", "False", "maybe"))
    assert not torch.equal(tokenizer(yes).values, tokenizer(no).values)
    code = (tokenizer(yes).values - tokenizer(other).values)[0, 0]
    torch.testing.assert_close(code, gaussian("smoker=TRUE", (128,)) / 2**0.5)
    assert tokenizer.remarks([*yes, *no]) == []


@pytest.mark.parametrize("name", ["numeric", "wide"])
def test_categories_that_no_training_row_has_are_counted_by_column(name: str):
    columns = ("size", "sex", "stage", "site")
    values = [(1.0, "f", "I", "x"), (2.0, "m", "II", "1"), (3.5, "f", math.nan, "x")]
    train = [Sample(id="", concept="", group="", content=Row(columns, cells, "")) for cells in values]
    tokenizer = modalities.load("tabular").tokenizer(name, train)
    assert tokenizer.remarks([sample.content for sample in train]) == []
    asked = [(9.0, "M", "I", 1.0), (1.0, "d", math.nan, 2.0), (1.0, "f", "I", "x")]
    assert tokenizer.remarks([Row(columns, cells, "") for cells in asked]) == [
        "categories that are not known from the training rows count as unknown: "
        "sex in 2 of 3 rows, site in 1 of 3 rows"
    ]


def test_categories_become_tokens_of_their_own(tmp_path: Path):
    content = "id,group,concept,age,sex\n1,1,a,3,f\n2,2,a,4,m\n3,3,b,5,f\n4,4,b,5,\n"
    (tmp_path / "t.csv").write_text(content)
    samples = read_table_samples(tmp_path / "t.csv")
    tokenizer = modalities.load("tabular").tokenizer("numeric", samples[:3])
    tokens = tokenizer([s.content for s in samples])
    assert tokens.mask.tolist() == [[True, True]] * 3 + [[True, False]]
    sex = tokens.values[:, 1]
    assert (sex[0] == sex[2]).all()
    assert (sex[0] - sex[1]).norm() > 1
    assert not sex[3].any()
    unknown = tokenizer([dataclasses.replace(samples[0].content, values=(3.0, "x"))])
    assert unknown.mask.all()  # an answer that nobody gave in training is not the same as none
    assert all((unknown.values[0, 1] - sex[i]).norm() > 1 for i in range(4))
    codes = read_rows(tmp_path / "t.csv", read_table(tmp_path / "t.csv")[["age", "sex"]], ("age",))
    assert [row.values[0] for row in codes] == ["3", "4", "5", "5"]


def test_an_anchor_with_a_word_for_a_number(tmp_path: Path):
    samples = [
        Sample(id=str(i), concept="a", group=str(i), content=Row(("age",), (float(i),), f"t.csv, row {i}"))
        for i in range(3)
    ]
    tokenizer = modalities.load("tabular").tokenizer("numeric", samples)
    with pytest.raises(DataError, match=r"(?s)anchor\.csv, row 1: column 'age' is not a number.*same units"):
        tokenizer([Row(("age",), ("old",), "anchor.csv, row 1")])


def test_the_named_index_of_a_data_frame_is_a_column(tmp_path: Path):
    frame = pd.DataFrame({"mass": [1.5, 2.0]}, index=pd.Index(["x0", "x1"], name="id"))
    frame.to_parquet(tmp_path / "named.parquet")
    assert read_table(tmp_path / "named.parquet").to_dict("list") == {"mass": ["1.5", "2.0"], "id": ["x0", "x1"]}
    frame.rename_axis(None).to_parquet(tmp_path / "plain.parquet")
    assert read_table(tmp_path / "plain.parquet").to_dict("list") == {"mass": ["1.5", "2.0"]}


def test_a_folder_named_like_a_partition_adds_no_column(tmp_path: Path):
    (tmp_path / "site=1").mkdir()
    pd.DataFrame({"mass": [1]}).to_parquet(tmp_path / "site=1" / "a.parquet")
    assert list(read_table(tmp_path / "site=1" / "a.parquet").columns) == ["mass"]


CELLS = {
    "whole": ([1.0, None, 3.0], ["1", "", "3"]),
    "number": ([1.0, None, 3.5], ["1.0", "", "3.5"]),
    "labels": ([["a", "b"], [], ["c"]], ["a|b", "", "c"]),
    "object": ([{"a": "ä"}] * 3, ['{"a": "ä"}'] * 3),
    "bytes": ([b"x", "ä".encode(), None], ["x", "ä", ""]),
    "truth": ([True, False, True], ["True", "False", "True"]),
    "accents": (["Ba\u0308r", " b ", ""], ["Bär", "b", ""]),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_of_other_kinds(name: str, tmp_path: Path):
    values, expected = CELLS[name]
    pd.DataFrame({"x": values}).to_parquet(tmp_path / "a.parquet")
    assert read_table(tmp_path / "a.parquet")["x"].tolist() == expected
    assert from_frame(pd.read_parquet(tmp_path / "a.parquet"), Path("frame"))["x"].tolist() == expected
    if name != "bytes":
        (tmp_path / "a.jsonl").write_text("".join(json.dumps({"x": value, "y": 0}) + "\n" for value in values))
        assert read_table(tmp_path / "a.jsonl")["x"].tolist() == expected
    if name == "number":
        (tmp_path / "a.csv").write_text("x,y\n1.0,0\n,0\n3.5,0\n")
        assert read_table(tmp_path / "a.csv")["x"].tolist() == expected


def test_json_that_is_no_lines_of_objects(tmp_path: Path):
    for content, problem in (
        (f'[{{"id": "{SECRET}"}}]', r"(?s)one JSON array.*lines=True"),
        (f'{{"id": 1}}\n\n{{"id": "{SECRET}\n', "line 3 is not a JSON object"),
        (f'{{"id": 1}}\n"{SECRET}"\n', "line 2 is not a JSON object"),
        (f'{{"a": "{SECRET}", " a": 1}}\n', "columns 1 and 2 have the same name"),
    ):
        for name in ("a.jsonl", "a.json"):
            (tmp_path / name).write_text(content)
            with pytest.raises(DataError, match=problem) as caught:
                read_table(tmp_path / name)
            assert SECRET not in str(caught.value)
    (tmp_path / "a.jsonl").write_text('\ufeff{"id": NaN, "b": 1}\n')
    assert read_table(tmp_path / "a.jsonl").to_dict("records") == [{"id": "", "b": "1"}]
