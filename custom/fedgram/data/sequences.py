"""DNA: a FASTA or FASTQ file (``.gz`` too) with a table of labels beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fedgram.config.site import PLAIN, Reading
from fedgram.data.decoding import decode_file
from fedgram.data.labels import label_rows
from fedgram.data.tables import read_table, require_column, require_filled, require_unique
from fedgram.errors import DataError
from fedgram.records import Sample

_FOREIGN = re.compile("[^ACGTURYSWKMBDHVN.-]")  # the complement of IUPAC's alphabet, with gaps
_PLAIN = str.maketrans("U", "T", "-.")  # RNA as DNA, without gaps
_FASTQ = (".fastq", ".fq")
_FASTA = (".fasta", ".fa", ".fna", ".ffn")
_TABLES = (".csv", ".tsv", ".parquet", ".jsonl")


def read_records(path: Path) -> dict[str, str]:
    """Read sequences by record id (the header's first word), in file order: upper case, no gaps, T for U.

    Raises:
        DataError: missing, damaged or neither FASTA nor FASTQ; an empty record; a letter outside the alphabet.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="correct the path in the site file")
    fastq = _without_gz(path).suffix.lower() in _FASTQ
    text = decode_file(path, "sequence file", latin=True)  # only headers can hold other letters than ASCII
    records = (_fastq if fastq else _fasta)(path, text)
    parsed = [_parse(path, number, *record) for number, record in enumerate(records, 1)]
    require_unique([name for name, _ in parsed], path, "record")
    return dict(parsed)


def _fasta(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Header and sequence of each FASTA record."""
    before, *records = re.split(r"^>", text, flags=re.MULTILINE)
    if before.strip() or not records:
        raise DataError("not a FASTA file", where=path, expected="records that begin with '>'")
    for record in records:
        header, *lines = record.split("\n")
        yield header, "".join(lines)


def _fastq(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Header and sequence of each FASTQ record; the qualities are not used."""
    lines = [line for line in text.split("\n") if line.strip()]
    for start in range(0, max(len(lines), 1), 4):
        header, sequence, plus, qualities = (*lines[start : start + 4], "", "", "", "")[:4]
        if header[:1] != "@" or plus[:1] != "+" or len(sequence) != len(qualities):
            raise DataError(
                "not a FASTQ record",
                where=f"{path}, record {start // 4 + 1}",
                expected="four lines: '@' and the name, bases, '+', as many qualities",
            )
        yield header[1:], sequence


def _parse(path: Path, number: int, header: str, letters: str) -> tuple[str, str]:
    where = f"{path}, record {number}"
    if not header.split():
        raise DataError("empty header", where=where, remedy="complete or remove the record")
    return header.split()[0], parse_sequence(letters, where)


def parse_sequence(letters: str, where: str) -> str:
    """A sequence in the form that every reader gives it: upper case, no gaps or spaces, T for U.

    Raises:
        DataError: it is empty, or has a letter outside the alphabet.
    """
    sequence = "".join(letters.split()).upper()
    if not sequence:
        raise DataError("empty sequence", where=where, remedy="complete or remove it")
    foreign = _FOREIGN.search(sequence)
    if foreign:
        raise DataError(
            f"a letter outside the IUPAC DNA alphabet at position {foreign.start() + 1}",
            where=where,
            expected="A C G T U, ambiguity codes R Y S W K M B D H V N, gaps - .",
            remedy="correct it; proteins are not supported",
        )
    bases = sequence.translate(_PLAIN)
    if not bases:
        raise DataError("nothing but gaps", where=where, remedy="remove it")
    return bases


def read_sequences(path: Path, reading: Reading = PLAIN) -> list[Sample]:
    """Read a sample for each record, in the order of the file.

    Raises:
        DataError: as :func:`read_records`; a record without a label, a label without a record.
    """
    sequences = read_records(path)
    labels = Path(reading.labels) if reading.labels else labels_beside(path)
    table = read_table(labels)
    require_filled(require_column(table, reading.columns.id, labels, "id"), labels)
    labelled = {sample.id: sample for sample in label_rows(table, labels, reading)}
    for number, name in enumerate(sequences, 1):
        if name not in labelled:
            raise DataError(
                f"no label for record {number}",
                where=labels,
                expected=f"a row for each record of {path.name}, with the first word of its header as id",
            )
    for number, name in enumerate(labelled, 1):
        if name not in sequences:
            raise DataError(
                f"row {number} has no sequence", where=labels, expected=f"a record of its name in {path.name}"
            )
    return [replace(labelled[name], content=sequence) for name, sequence in sequences.items()]


def is_sequence_file(path: Path) -> bool:
    """Whether a file is FASTA or FASTQ by its name."""
    return _without_gz(path).suffix.lower() in (*_FASTA, *_FASTQ)


def labels_beside(path: Path) -> Path:
    """The table of labels with the same stem; the CSV when there is none, so that the error names it."""
    stem = _without_gz(path)
    tables = [stem.with_suffix(suffix) for suffix in _TABLES]
    return next((table for table in tables if table.is_file()), tables[0])


def _without_gz(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def read_sequence(path: Path) -> str:
    """Read the one record of an anchor file.

    Raises:
        DataError: as :func:`read_records`, or not one record.
    """
    records = read_records(path)
    if len(records) != 1:
        raise DataError(f"{len(records)} records", where=path, expected="one record per anchor file")
    return next(iter(records.values()))
