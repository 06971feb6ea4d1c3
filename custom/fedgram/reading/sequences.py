"""DNA: a FASTA file (``.gz`` too) with a CSV label table of the same stem beside it: id, concept, group."""

from __future__ import annotations

import gzip
import re
import zlib
from pathlib import Path

from fedgram.errors import DataError
from fedgram.reading.tables import read_samples, require_unique
from fedgram.types import Sample

_FOREIGN = re.compile("[^ACGTURYSWKMBDHVN.-]")  # the complement of IUPAC's alphabet, with gaps
_PLAIN = str.maketrans("U", "T", "-.")  # RNA as DNA, without gaps


def read_fasta(path: Path) -> dict[str, str]:
    """Sequences by record id (the first word of the header), in file order: upper case, no gaps, T for U.

    Raises:
        DataError: missing, damaged or not FASTA; an empty record; a letter outside the alphabet.
    """
    if not path.is_file():
        raise DataError("no such file", where=path, remedy="correct the path in the site file")
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            text = file.read()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataError(f"not readable ({type(error).__name__})", where=path, expected="FASTA text") from None
    before, *records = re.split(r"^>", text, flags=re.MULTILINE)
    if before.strip() or not records:
        raise DataError("not a FASTA file", where=path, expected="records that begin with '>'")
    parsed = [_parse_record(path, number, record) for number, record in enumerate(records, 1)]
    require_unique([name for name, _ in parsed], path, "record")
    return dict(parsed)


def _parse_record(path: Path, number: int, record: str) -> tuple[str, str]:
    header, *lines = record.splitlines()
    where, sequence = f"{path}, record {number}", "".join("".join(lines).split()).upper()
    if not header.split() or not sequence:
        raise DataError("empty header or sequence", where=where, remedy="complete or remove the record")
    foreign = _FOREIGN.search(sequence)
    if foreign:
        raise DataError(
            f"a letter outside the IUPAC DNA alphabet at position {foreign.start() + 1}",
            where=where,
            expected="A C G T U, ambiguity codes R Y S W K M B D H V N, gaps - .",
            remedy="correct the record; proteins are not supported",
        )
    bases = sequence.translate(_PLAIN)
    if not bases:
        raise DataError("nothing but gaps", where=where, remedy="remove the record")
    return header.split()[0], bases


def read_sequences(path: Path) -> list[Sample]:
    """A sample for each record, labelled by the table beside the file.

    Raises:
        DataError: as :func:`read_fasta`; a record without a label, a label without a record.
    """
    sequences = read_fasta(path)
    labels_path = path.with_name(path.name.removesuffix(".gz")).with_suffix(".csv")
    labels = read_samples(labels_path).set_index("id")
    for number, name in enumerate(sequences, 1):
        if name not in labels.index:
            raise DataError(
                f"no label for record {number}",
                where=labels_path,
                expected=f"a row for each record of {path.name}",
            )
    if len(labels) > len(sequences):
        row = int((~labels.index.isin(list(sequences))).argmax()) + 1
        raise DataError(f"row {row} has no sequence", where=labels_path, expected=f"a record in {path.name}")
    ordered = labels.loc[list(sequences)]
    return [
        Sample(name, concept, group, sequence)
        for (name, sequence), concept, group in zip(
            sequences.items(), ordered["concept"], ordered["group"], strict=True
        )
    ]
