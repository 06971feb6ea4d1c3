"""Decimal signs: read where they are plain, refused where they may stand between thousands."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedgram.config.site import Columns, Reading
from fedgram.data.numbers import parse_numbers, with_points
from fedgram.data.rows import read_row, read_table_samples
from fedgram.errors import DataError

PATH = Path("t.csv")


def numbers(*columns: str) -> list[list[float]]:
    split = [column.split() for column in columns]
    return [parse_numbers(c).tolist() for c in with_points(split, [f"c{i}" for i in range(len(split))], PATH)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (["3.5 1.234 2"], [[3.5, 1.234, 2]]),
        (["1.234 5.678"], [[1.234, 5.678]]),  # all points and nothing else: English
        (["950.000 1050.000"], [[950, 1050]]),
        (["0.123 1.050 2"], [[0.123, 1.05, 2]]),
        (["629 1.359 2.0"], [[629, 1.359, 2]]),
        (["629 1.359 1340"], [[629, 1.359, 1340]]),  # a thousand without a point
        (["629 1.359", "2.5 3"], [[629, 1.359], [2.5, 3]]),  # the second column decides
        (["-1.234 2.345", "3 4"], [[-1.234, 2.345], [3, 4]]),
        (["3,5 2 -0,25 1,5e-3"], [[3.5, 2, -0.25, 0.0015]]),
        (["1,234 5,678", "0,5 7"], [[1.234, 5.678], [0.5, 7]]),  # the second column decides
        (["0,123 0,456"], [[0.123, 0.456]]),  # no thousands begin with 0
        ([",5 1,25"], [[0.5, 1.25]]),
        (["−3.5 2"], [[-3.5, 2]]),
        (["3,5 1,5", "2.75 1.5"], [[3.5, 1.5], [2.75, 1.5]]),  # each is plain in itself
    ],
)
def test_decimal_signs(columns: list[str], expected: list[list[float]]):
    assert numbers(*columns) == expected


@pytest.mark.parametrize(
    "columns",
    [
        ["1,234 5,678"],  # nothing decides
        ["1,234 2", "3,5 4", "2.75 4"],  # the table has both
        ["1.234 5.678", "3,5 4"],  # points may be thousands where commas are decimal
        ["629 1.359 339 1.340"],  # platelets of a German laboratory, or little more than one
        ["-2 1.359", "3 4"],
        ["629 1.359", "3,5 4"],
        ["1.234,5 2"],
        ["1,234.5 2"],
        ["1.234.567 2"],
        ["1'234 1'500"],
        ["1\u202f234 1500"],
        ["3,5 2.5"],
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(columns: list[str]):
    with pytest.raises(DataError, match=r"(?s)t\.csv: column 'c0'.*thousands.*export it without them"):
        with_points([c.split(" ") for c in columns], ["c0", "c1", "c2"], PATH)


def test_words_with_commas_stay_words():
    words = ["a,b 1,5mg x", "12,5,3 1,2,3 4,5,6"]
    assert with_points([c.split() for c in words], ["a", "b"], PATH) == [c.split() for c in words]


def test_a_table_of_a_german_spreadsheet(tmp_path: Path):
    content = "id;group;concept;mass;length;days\n0;p0;a;3,0;0,50;1,5\n1;p0;a;3,1;;2\n2;p1;b;#NV;1,234;3\n"
    (tmp_path / "d.csv").write_text(content.replace("#NV", "#N/A"))
    samples = read_table_samples(tmp_path / "d.csv", Reading(Columns(target="days"), "regression"))
    assert [repr(s.content.values) for s in samples] == ["(3.0, 0.5)", "(3.1, nan)", "(nan, 1.234)"]
    assert [s.target for s in samples] == [1.5, 2.0, 3.0]
    (tmp_path / "anchor.csv").write_text("mass;length\n2,5;1\n")
    assert read_row(tmp_path / "anchor.csv").values == (2.5, 1.0)


def test_targets_are_decided_by_the_whole_table(tmp_path: Path):
    (tmp_path / "d.csv").write_text("id;group;mass;days\n0;p0;3,5;1.234\n1;p1;2,5;2.345\n")
    with pytest.raises(DataError, match="column 'days' has numbers with thousands separators"):
        read_table_samples(tmp_path / "d.csv", Reading(Columns(target="days"), "regression"))


@pytest.mark.parametrize("word", ["NA", "n/a", "#N/A", "#DIV/0!", "#NUM!", "?", ".", "-nan"])
def test_words_of_programs_for_nothing(word: str, tmp_path: Path):
    (tmp_path / "t.csv").write_text(f"group,concept,mass,sex\n1,a,3,f\n2,b,{word},m\n3,b,4,{word}\n")
    found = [s.content.values for s in read_table_samples(tmp_path / "t.csv")]
    assert [repr(values) for values in found] == ["(3.0, 'f')", "(nan, 'm')", "(4.0, nan)"]


def test_formulas_that_failed_are_no_categories(tmp_path: Path):
    (tmp_path / "t.csv").write_text("group,concept,sex\n1,a,f\n2,b,#REF!\n")
    with pytest.raises(DataError, match="row 2: column 'sex' has a formula that failed"):
        read_table_samples(tmp_path / "t.csv")


def test_numbers_are_those_of_pandas():
    assert np.isnan(parse_numbers(["", "x", "1_000", "1 2"])).all()
    assert parse_numbers(["1e3", "-.5", "0.1"]).tolist() == [1000.0, -0.5, 0.1]
