"""Wide tables in few tokens: a row of hundreds of numbers is cut into 16 blocks of neighbouring columns."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fedgram.data.rows import Row, aligned
from fedgram.errors import DataError
from fedgram.modalities import tabular
from fedgram.modalities.base import Tokenizer
from fedgram.records import Sample, Tokens

LENGTH = 16


class Blocks:
    """A tokenizer in which block i of a row is token i; the last block is filled up with 0, and nothing is learnt.

    Raises:
        DataError: no training rows, or a column that holds no numbers.
    """

    def __init__(self, rows: Sequence[Row]):
        if not rows:
            raise DataError("no training rows", where="tokenizer 'blocks'")
        self._columns = rows[0].columns
        self.width = -(-len(self._columns) // LENGTH)
        self.identity = f"blocks:1:{LENGTH}:{sha256(repr(self._columns).encode()).hexdigest()}"

    def __call__(self, contents: Sequence[Row]) -> Tokens:
        values = np.zeros((len(contents), LENGTH * self.width), dtype=np.float32)
        for row, cells in zip(contents, values, strict=True):
            try:
                cells[: len(self._columns)] = np.array(aligned(row, self._columns), dtype=np.float32)
            except ValueError:
                raise DataError("a cell is not a number", where=row.source, expected="numbers alone") from None
        if not np.isfinite(values).all():
            raise DataError("a cell is missing", where="tokenizer 'blocks'", expected="a number in every cell")
        tokens = torch.from_numpy(values).reshape(len(contents), LENGTH, self.width)
        return Tokens(tokens, torch.ones(tokens.shape[:2], dtype=torch.bool))


def read_anchor(path: Path) -> Row:
    """The one row of an anchor file; fedgram's own reader takes a second for so many columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            header, row = csv.reader(file)
        return Row(tuple(header), tuple(map(float, row)), str(path))
    except (OSError, ValueError) as error:
        raise DataError(
            f"not readable ({type(error).__name__})", where=path, expected="a header and one row of numbers"
        ) from None


def tokenizer(name: str, fit_on: Sequence[Sample], *kept: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer ``blocks``, or any that fedgram has for tables."""
    return Blocks([s.content for s in fit_on]) if name == "blocks" else tabular.tokenizer(name, fit_on, *kept)


MODALITY = replace(tabular.MODALITY, read_anchor=read_anchor, tokenizer=tokenizer)
TABLE = "research.evidence.federations.blocks:MODALITY"  # as a site file calls it
