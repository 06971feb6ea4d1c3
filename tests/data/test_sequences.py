"""FASTA and FASTQ with a table of labels."""

from __future__ import annotations

import gzip
from pathlib import Path

import pandas as pd
import pytest
from fedgram import modalities
from fedgram.config.site import Columns, Reading
from fedgram.errors import DataError

FASTQ = "@a first read\nACGU\n+\nIIII\n@b\nAC-GN\n+b\n@+>I#\n"
LABELS = "read,concept,group\na,dog,1\nb,cat,2\n"
READING = Reading(Columns(id="read"))


def read(path: Path, reading: Reading = READING) -> list[tuple[str, str]]:
    return [(s.concept, s.content) for s in modalities.load("genomics").read(path, reading)]


@pytest.mark.parametrize("name", ["a.fastq", "a.fq", "a.FASTQ", "a.fastq.gz"])
def test_fastq(name: str, tmp_path: Path):
    path = tmp_path / name
    path.write_bytes(gzip.compress(FASTQ.encode()) if name.endswith("gz") else FASTQ.encode())
    (tmp_path / "a.csv").write_text(LABELS)
    assert read(path) == [("dog", "ACGT"), ("cat", "ACGN")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (FASTQ.replace("IIII", "III"), "record 1: not a FASTQ record"),
        (FASTQ + "@c\nACGT\n", "record 3: not a FASTQ record"),
        ("", "record 1: not a FASTQ record"),
        (">a\nACGT\n", "record 1: not a FASTQ record"),
        (FASTQ.replace("AC-GN", "AC!GN"), "record 2: a letter outside"),
    ],
)
def test_damaged_fastq(content: str, message: str, tmp_path: Path):
    (tmp_path / "a.fastq").write_text(content)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.fastq")


def test_labels_in_any_table_beside_it_or_elsewhere(tmp_path: Path):
    (tmp_path / "a.fa").write_text(">b\nACGT\n>a\nTTTT\n")
    (tmp_path / "a.tsv").write_text(LABELS.replace(",", "\t"))
    assert read(tmp_path / "a.fa") == [("cat", "ACGT"), ("dog", "TTTT")]
    (tmp_path / "elsewhere.csv").write_text(LABELS.replace("cat", "fox"))
    elsewhere = Reading(Columns(id="read"), labels=str(tmp_path / "elsewhere.csv"))
    assert read(tmp_path / "a.fa", elsewhere)[0] == ("fox", "ACGT")


def test_a_table_without_names_of_records(tmp_path: Path):
    (tmp_path / "a.fa").write_text(">a\nACGT\n")
    (tmp_path / "a.csv").write_text(LABELS)
    with pytest.raises(DataError, match="missing column 'id'"):
        read(tmp_path / "a.fa", Reading())


@pytest.mark.parametrize("end", ["\n", "\n\n\n", "\r\n\r\n", " \n"])
def test_blank_lines_between_records_and_at_the_end(end: str, tmp_path: Path):
    (tmp_path / "a.csv").write_text(LABELS)
    for name, content in (("a.fastq", FASTQ.replace("@b", "\n@b")), ("a.fa", ">a\nACGT\n\n>b\nACGN")):
        (tmp_path / name).write_bytes((content + end).encode())
        assert read(tmp_path / name) == [("dog", "ACGT"), ("cat", "ACGN")]


def test_headers_in_latin_1_and_accents_coded_in_two_ways(tmp_path: Path):
    (tmp_path / "a.csv").write_text(LABELS.replace("a,", "Bär,"))
    for start in (">Bär".encode("latin-1"), ">Bär".encode(), ">Ba\u0308r".encode(), "\ufeff>Bär".encode()):
        (tmp_path / "a.fa").write_bytes(start + b"\nACGT\n>b\nACGN\n")
        assert read(tmp_path / "a.fa") == [("dog", "ACGT"), ("cat", "ACGN")]


def test_gzip_is_known_by_its_content(tmp_path: Path):
    (tmp_path / "a.csv").write_text(LABELS)
    for name in ("a.fastq.GZ", "a.fastq"):
        (tmp_path / name).write_bytes(gzip.compress(FASTQ[:20].encode()) + gzip.compress(FASTQ[20:].encode()))
        assert read(tmp_path / name) == [("dog", "ACGT"), ("cat", "ACGN")]


def test_ids_that_became_decimal_numbers(tmp_path: Path):
    (tmp_path / "a.fa").write_text(">0\nACGT\n>1\nACGN\n")
    table = pd.DataFrame({"read": [0.0, 1.0], "concept": ["dog", "cat"], "group": ["1", "2"]})
    for name, write in (("a.csv", table.to_csv), ("a.parquet", table.to_parquet)):
        (tmp_path / "a.csv").unlink(missing_ok=True)
        write(tmp_path / name, index=False)
        assert read(tmp_path / "a.fa") == [("dog", "ACGT"), ("cat", "ACGN")]
