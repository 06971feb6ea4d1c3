"""DNA: k-mers or a frozen language model over the records of :mod:`fedgram.data.sequences`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count, product
from typing import Any

import numpy as np
import torch

from fedgram import pretrained
from fedgram.data import unlabelled
from fedgram.data.sequences import parse_sequence, read_sequence, read_sequences
from fedgram.errors import DataError
from fedgram.modalities.base import FileModality, Tokenizer
from fedgram.modalities.sequence import SequenceEncoder
from fedgram.records import Sample, Tokens

_COMPLEMENT = str.maketrans("ACGT", "TGCA")


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
    """Counts of canonical k-mers in L equal pieces of a sequence, L2-normalised; nothing here is learned.

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
        """Count the k-mers of one sequence, (L, d_m), float32; a k-mer belongs to the piece in which it starts."""
        counts = np.zeros((self._pieces, self.width), dtype=np.float32)
        for start in range(len(sequence) - self._k + 1):
            column = self._columns.get(sequence[start : start + self._k])
            if column is not None:
                counts[start * self._pieces // len(sequence), column] += 1
        return counts


def spelling_of(vocabulary: frozenset[str]) -> Callable[[str], str]:
    """The way in which an encoder with that vocabulary wants DNA to be written.

    DNABERT (Ji 2021) knows all words of k bases and no shorter one: overlapping k-mers, one at each base, with
    spaces between. Byte-pair vocabularies (DNABERT-2) and those with single bases besides 6-mers (Nucleotide
    Transformer) take the plain sequence and divide it themselves.
    """
    k = next((k for k in range(3, 9) if {"A" * k, "C" * k, "G" * k, "T" * k} <= vocabulary), None)
    words = {word for word in vocabulary if set(word) <= set("ACGT")}
    if k is None or words != {"".join(letters) for letters in product("ACGT", repeat=k)}:
        return lambda sequence: sequence
    return lambda sequence: " ".join(sequence[i : i + k] for i in range(max(1, len(sequence) - k + 1)))


def tokenizer(name: str, fit_on: Sequence[Sample], statistics: Mapping[str, Any] | None = None) -> Tokenizer:
    """Open ``kmer``, or a DNA encoder by hub id or folder."""
    if name == "kmer":
        return KmerCounts()
    return SequenceEncoder(pretrained.locate(name), [sample.content for sample in fit_on], spelling_of, statistics)


# A content is a string over the IUPAC alphabet, without gaps.
MODALITY = FileModality(
    "genomics", read_sequences, read_sequence, tokenizer, str.encode, unlabelled.sequences, parse_sequence
)
