"""Tables: one token per column of the rows of :mod:`fedgram.data.rows`, or one of all where they are many."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import astuple
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedgram.data import unlabelled
from fedgram.data.rows import Cell, Row, aligned, category, is_missing, read_row, read_table_samples
from fedgram.errors import DataError
from fedgram.modalities.base import FileModality, Tokenizer
from fedgram.modalities.columns import ColumnScale, fit_scale, gaussian, no_number, remark_unknown
from fedgram.modalities.wide import WideTokens
from fedgram.records import Sample, Tokens

NARROW = 512  # columns: as many tokens as the shared transformers of the BERT kind have positions


class NumericTokens:
    """One token per column of a table: a fixed random code of the column's name and of the value.

    Token of column c with standardised value v: P_c [1, v, sin v, cos v, sin 2v, cos 2v]. P_c: (d_m, 6) is
    Gaussian and depends on the name alone, so that two tables with the same columns speak of the same tokens.
    A category has v = 0 and adds a Gaussian vector of its own; one that no training row has adds nothing.
    """

    width = 128

    def __init__(self, rows: Sequence[Row], statistics: Mapping[str, Any] | None = None):
        self.statistics = statistics or _fit(rows)
        self._columns = tuple(self.statistics["columns"])
        self._scales = [ColumnScale(*scale) for scale in self.statistics["scales"]]
        known: dict[str, list[str]] = self.statistics["categories"]
        self._codes = {c: {category(n): _code(c, n) for n in names} for c, names in known.items()}
        self._projections = torch.stack([gaussian(c, (self.width, 6)) / 6**0.5 for c in self._columns])
        fitted = sha256(repr((self._columns, self._scales, *([known] if known else []))).encode()).hexdigest()
        self.identity = f"numeric:1:{self.width}:{fitted}"
        self.family = f"numeric:1:{self.width}:{self._columns}"

    def __call__(self, contents: Sequence[Row]) -> Tokens:
        matrix = np.array([self._numbers(row) for row in contents])
        v = torch.tensor(
            [
                [0.0 if math.isnan(x) else s(x) for s, x in zip(self._scales, r, strict=True)]
                for r in matrix.tolist()
            ]
        )
        mask = torch.from_numpy(~np.isnan(matrix))
        features = torch.stack([torch.ones_like(v), v, v.sin(), v.cos(), (2 * v).sin(), (2 * v).cos()], dim=-1)
        values = torch.einsum("cdf,ncf->ncd", self._projections, features)
        for n, row in enumerate(contents):
            for c, (name, cell) in enumerate(zip(self._columns, aligned(row, self._columns), strict=True)):
                if name in self._codes and not is_missing(cell):
                    values[n, c] += self._codes[name].get(category(cell), 0.0)
        return Tokens(values * mask[..., None], mask)

    def remarks(self, contents: Sequence[Row]) -> list[str]:
        """Say where categories are that no training row has."""
        return remark_unknown(contents, self._columns, self._codes)

    def _numbers(self, row: Row) -> list[float]:
        """The numbers of a row, NaN where missing; a category counts as 0."""
        return _numbers(row, self._columns, self._codes)


def _fit(rows: Sequence[Row]) -> dict[str, Any]:
    """The columns of training rows, the scale of each and the categories of those that have some, as JSON."""
    if not rows:
        raise DataError("no training rows to fit on", where="tokenizer 'numeric'")
    columns = rows[0].columns
    cells = list(zip(*(aligned(row, columns) for row in rows), strict=True))
    categories = {
        name: sorted({category(cell) for cell in column if not is_missing(cell)})
        for name, column in zip(columns, cells, strict=True)
        if any(isinstance(cell, str) for cell in column)
    }
    matrix = np.array([_numbers(row, columns, categories) for row in rows])
    scales = [
        ColumnScale(False, 0.0, 1.0) if c in categories else fit_scale(c, matrix[:, i])
        for i, c in enumerate(columns)
    ]
    return {"columns": [*columns], "scales": [[*astuple(scale)] for scale in scales], "categories": categories}


def _numbers(row: Row, columns: Sequence[str], categories: Container[str]) -> list[float]:
    cells = zip(columns, aligned(row, columns), strict=True)
    return [_number(name, cell, name in categories, row.source) for name, cell in cells]


def _number(column: str, cell: Cell, coded: bool, where: str) -> float:
    if is_missing(cell):
        return math.nan
    if coded:
        return 0.0
    if isinstance(cell, str):
        raise no_number(column, where)
    return cell


def _code(column: str, name: str) -> Tensor:
    """The fixed vector (d_m,) of a category."""
    return gaussian(f"{column}={name}", (NumericTokens.width,)) / 2**0.5


def tokenizer(name: str, fit_on: Sequence[Sample], statistics: Mapping[str, Any] | None = None) -> Tokenizer:
    """Open a tokenizer of tables, with the statistics of the training rows.

    ``numeric`` makes a token of each column up to :data:`NARROW`, and of wider tables one of all; ``wide`` always
    does the latter. ``tabpfn``, or a file of its weights, is TabPFN.
    """
    if name in ("numeric", "wide"):
        rows = [sample.content for sample in fit_on]
        columns = statistics["columns"] if statistics else rows[0].columns if rows else ()
        return (WideTokens if name == "wide" or len(columns) > NARROW else NumericTokens)(rows, statistics)
    if name == "tabpfn" or Path(name).suffix in (".safetensors", ".ckpt"):
        from fedgram.modalities.tabpfn_rows import TabPfnRows

        return TabPfnRows(name, fit_on)
    raise DataError(
        "unknown", where=f"tokenizer {name!r}", expected="numeric, wide, tabpfn, or a file of its weights"
    )


def fingerprint(content: Row) -> bytes:
    """The bytes of a row's names and values."""
    return repr((content.columns, content.values)).encode()


MODALITY = FileModality("tabular", read_table_samples, read_row, tokenizer, fingerprint, unlabelled.rows)
