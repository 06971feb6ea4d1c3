"""CSV and TSV as programs of all kinds write them."""

from __future__ import annotations

import codecs
import gzip
from pathlib import Path

import pandas as pd
import pytest
from fedgram.data.delimited import read_delimited
from fedgram.data.tables import read_table
from fedgram.errors import DataError
from hypothesis import given
from hypothesis import strategies as st

SECRET = "Xq77"
PATH = Path("t.csv")


def table(path: Path, content: str | bytes) -> list[dict]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_table(path).to_dict("records")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_header_says_what_separates(separator: str, tmp_path: Path):
    content = (
        separator.join(["id", '"mass, in kg; wet"', "text"]) + "\n" + separator.join(["1", "2", "a.b"]) + "\n"
    )
    for name in ("a.csv", "a.txt", "a.tsv", "a"):
        assert table(tmp_path / name, content) == [{"id": "1", "mass, in kg; wet": "2", "text": "a.b"}]


def test_excel_says_what_separates(tmp_path: Path):
    assert table(tmp_path / "a.csv", "sep=;\na,b;c\n1;2\n") == [{"a,b": "1", "c": "2"}]


@pytest.mark.parametrize(
    "encode",
    [
        lambda text: codecs.BOM_UTF8 + text,
        lambda text: text.decode().encode("utf-16"),
        lambda text: codecs.BOM_UTF16_BE + text.decode().encode("utf-16-be"),
        lambda text: text.replace(b"\n", b"\r\n"),
        lambda text: text.replace(b"\n", b"\r"),
        lambda text: gzip.compress(text[:9]) + gzip.compress(text[9:]),
        lambda text: b"\n\n" + text + b",\n,\n",
    ],
    ids=["BOM", "UTF-16", "UTF-16 BE", "Windows", "old Mac", "gzip members", "empty rows"],
)
def test_one_table_in_many_codings(encode, tmp_path: Path):
    content = encode("id,näme\n1,Bär\n2,\n".encode())
    for name in ("a.csv", "A.CSV.GZ", "a.csv.gz"):
        assert table(tmp_path / name, content) == [{"id": "1", "näme": "Bär"}, {"id": "2", "näme": ""}]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"id,text\n1,{SECRET}\n2,\xe4\n".encode("latin-1"), "line 3 is not UTF-8"),
        (f"id,{SECRET}\n".encode("utf-16-le"), "it holds zero bytes"),
        (b"PK\x03\x04" + SECRET.encode(), "a spreadsheet or a zip archive"),
        (gzip.compress(SECRET.encode() * 99)[:-9], "EOFError"),
        (f'id,text\n1,"{SECRET}\n2,a,b\n'.encode(), "quotes that do not match"),
        (f"id,text\n1,{SECRET},\n2,a,b\n".encode(), "row 1: 3 cells where the header has 2"),
        (f"id,text,mass\n1,{SECRET},3\n2,a\n".encode(), "row 2: 2 cells where the header has 3"),
        (f"id,text\n1,{SECRET}\nid,text\n2,b\n".encode(), "row 2: repeats the header"),
        (f"id,{SECRET},text, {SECRET}\n1,2,3,4\n".encode(), "columns 2 and 4 have the same name"),
        (f"id,,{SECRET}\n1,2,3\n".encode(), "column 2 has cells and no name"),
        (
            b'"id","text"\n"1",7,"a"\n"2",8,"b"\n',
            "(?s)row 1: 3 cells where.*col.names = NA",
        ),  # names of rows
        (b"id,text\n", "no samples"),
        (b"\n", "no samples"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,  # gzip writes the time, and workers compare names
)
def test_what_is_no_table_is_named_and_not_quoted(content: bytes, problem: str, tmp_path: Path):
    with pytest.raises(DataError, match=problem) as caught:
        table(tmp_path / "t.csv", content)
    assert str(tmp_path / "t.csv") in str(caught.value)
    assert SECRET not in str(caught.value)


def test_columns_keep_their_names(tmp_path: Path):
    right = [{"group": "p0", "y": "100"}, {"group": "p1", "y": "101"}]
    assert table(tmp_path / "rows.csv", "group,y\np0,100,\np1,101,\n") == right  # separators at the ends of rows
    assert table(tmp_path / "all.csv", "group,y,,\np0,100,,\np1,101,,\n") == right  # of the header as well
    assert table(tmp_path / "spaces.csv", "group, y\np0, 100\np1, 101\n") == right
    named = pd.DataFrame(right, index=["a", "b"])
    assert table(tmp_path / "pandas.csv", named.to_csv()) == [
        {"Unnamed: 0": "a", **right[0]},
        {"Unnamed: 0": "b", **right[1]},
    ]


def test_quotes_that_programs_write_and_quotes_that_are_inches():
    text = 'id,text,mass\n1,"two\nlines, a comma and a ""quote""",3\n2,plain,4\n'
    assert read_delimited(text, PATH)[1] == ["1", 'two\nlines, a comma and a "quote"', "3"]
    stray = 'id\ttext\tmass\n1\t"left" lung\t3\n2\t"left\t4\n3\tplain\t5\n4\t"right\t6\n5\t12" pipe\t7\n'
    assert [row[1] for row in read_delimited(stray, PATH)] == [
        "text",
        '"left" lung',
        '"left',
        "plain",
        '"right',
        '12" pipe',
    ]
    sloppy = '"id","text"\n"1","a 12" pipe"\n"2","said ""no"""\n'
    assert [row[1] for row in read_delimited(sloppy, PATH)][1:] == ['"a 12" pipe"', 'said "no"']


def test_a_cell_of_whole_rows_is_refused():
    both = 'id,text,mass\n1,"a, b",3\n2,"left,4\n3,plain,5\n4,the 12",6\n'
    with pytest.raises(DataError, match=r"row 2: a quoted cell goes over lines that look like rows"):
        read_delimited(both, PATH)


def test_lines_of_a_text_that_look_like_rows_are_never_taken_for_rows():
    """Nothing decides whether quotes are letters, where both ways of reading are even."""
    notes = 'note;label\n"seen; no fever\nleft";good\n"again; cough\nleft";bad\n'
    swallowed = 'id\ttext\tmass\n1\t"left\t3\n2\tplain\t4\n3\tthe 12"\t5\n'  # quoted, one cell of three lines
    for text in (notes, swallowed):
        with pytest.raises(DataError, match=r"(?s)row 1: a quoted cell goes over.*take line ends out"):
            read_delimited(text, PATH)
    rows = read_delimited(notes.replace("no fever\n", "no fever\n\n").replace("cough\n", "cough; "), PATH)
    assert rows[1:] == [["seen; no fever\n\nleft", "good"], ["again; cough; left", "bad"]]


cells = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\0", exclude_categories=["Z", "Cc"]), max_size=9
)


@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=5))
def test_what_pandas_writes_is_read_back(rows: list[tuple[str, str, str]]):
    frame = pd.DataFrame([("1", *row) for row in rows], columns=["id", "a", "b", "c"], dtype=object)
    assert read_delimited(frame.to_csv(index=False), PATH)[1:] == frame.to_numpy().tolist()
