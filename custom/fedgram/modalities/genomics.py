"""DNA: a FASTA file (``.gz`` too) with a CSV label table of the same stem beside it: id, concept, group."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Sequence
from itertools import count, product
from pathlib import Path

import numpy as np
import torch

from fedgram import pretrained
from fedgram.errors import DataError
from fedgram.modalities.base import Tokenizer
from fedgram.modalities.hf import SequenceEncoder
from fedgram.modalities.tables import read_samples, require_unique
from fedgram.types import Sample, Tokens

MAX_LENGTH = 64  # tokens of a DNA language model; 300 bases are 50 of its 6-mers
_FOREIGN = re.compile("[^ACGTURYSWKMBDHVN.-]")  # the complement of IUPAC's alphabet, with gaps
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
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


def canonical_kmers(k: int) -> dict[str, int]:
    """Column of every k-mer; a k-mer and its reverse complement share one, as a read's strand is arbitrary."""
    columns: dict[str, int] = {}
    number = count()
    for letters in product("ACGT", repeat=k):
        kmer = "".join(letters)
        reverse = kmer.translate(_COMPLEMENT)[::-1]
        columns[kmer] = columns[reverse] if reverse in columns else next(number)
    return columns


class KmerCounts:
    """Not a learned encoder: counts of canonical k-mers in L equal pieces of the sequence, L2-normalised.

    A k-mer with an ambiguous letter does not count; a piece without any k-mer is masked.
    """

    def __init__(self, k: int = 6, pieces: int = 6):
        self._k, self._pieces, self._columns = k, pieces, canonical_kmers(k)
        self.width = max(self._columns.values()) + 1
        self.identity = f"kmer:1:{k}:{pieces}"

    def __call__(self, contents: Sequence[str]) -> Tokens:
        counts = np.stack([self.count(sequence) for sequence in contents])
        norms = np.linalg.norm(counts, axis=2, keepdims=True)
        present = norms[..., 0] > 0
        if not present.any(axis=1).all():
            raise DataError(
                f"no run of {self._k} unambiguous bases in a sequence",
                where="tokenizer 'kmer'",
                remedy="take out records that are all gaps or ambiguity codes",
            )
        return Tokens(torch.from_numpy(counts / np.maximum(norms, 1)), torch.from_numpy(present))

    def count(self, sequence: str) -> np.ndarray:
        """(L, d_m), float32: a k-mer belongs to the piece in which it starts."""
        counts = np.zeros((self._pieces, self.width), dtype=np.float32)
        for start in range(len(sequence) - self._k + 1):
            column = self._columns.get(sequence[start : start + self._k])
            if column is not None:
                counts[start * self._pieces // len(sequence), column] += 1
        return counts


class GenomicsModality:
    """Content: the sequence, a string over the IUPAC alphabet, without gaps."""

    name = "genomics"

    def read(self, path: Path) -> list[Sample]:
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

    def read_anchor(self, path: Path) -> str:
        records = read_fasta(path)
        if len(records) != 1:
            raise DataError(f"{len(records)} records", where=path, expected="one record per anchor file")
        return next(iter(records.values()))

    def tokenizer(self, name: str, fit_on: Sequence[str]) -> Tokenizer:
        """``kmer``, or a DNA encoder by hub id or folder: its last hidden states."""
        return KmerCounts() if name == "kmer" else SequenceEncoder(pretrained.locate(name), MAX_LENGTH)

    def fingerprint(self, content: str) -> bytes:
        return content.encode()


MODALITY = GenomicsModality()
