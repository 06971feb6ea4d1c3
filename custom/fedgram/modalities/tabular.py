"""Tables: one token per column of the rows of :mod:`fedgram.data.rows`."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import astuple, dataclass
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
from fedgram.records import Sample, Tokens


@dataclass(frozen=True)
class ColumnScale:
    """Standardisation of one column: logarithm first if ``log``, then (x − mean) / std."""

    log: bool
    mean: float
    std: float

    def __call__(self, value: float) -> float:
        """Standardise, at most 4 from 0; a non-positive value has no logarithm and counts as −4."""
        if self.log and value <= 0:
            return -4.0
        x = math.log(value) if self.log else value
        return max(-4.0, min(4.0, (x - self.mean) / self.std))


def fit_scale(name: str, values: np.ndarray) -> ColumnScale:
    """Fit the scale of one column to the training rows.

    Positive columns that span a factor of 100 (body weights) are standardised on the log scale.

    Args:
        values: (N,), NaN where missing.

    Raises:
        DataError: no value in any training row.
    """
    present = values[~np.isnan(values)]
    if present.size == 0:
        raise DataError(
            f"column {name!r} has no value in any training row", where="tabular data", remedy="drop the column"
        )
    log = bool(present.min() > 0 and present.max() >= 100 * present.min())
    x = np.log(present) if log else present
    return ColumnScale(log, float(x.mean()), float(x.std()) or 1.0)  # a constant column is only centred


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
        self._codes = {c: {n: _code(c, n) for n in names} for c, names in known.items()}
        self._projections = torch.stack([_gaussian(c, (self.width, 6)) / 6**0.5 for c in self._columns])
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
        raise DataError(
            f"column {column!r} is not a number",
            where=where,
            expected="a number, as in every training row of the site",
            remedy="all tables of a site, and its anchors, need the same columns in the same units",
        )
    return cell


def _code(column: str, name: str) -> Tensor:
    """The fixed vector (d_m,) of a category."""
    return _gaussian(f"{column}={name}", (NumericTokens.width,)) / 2**0.5


def _gaussian(name: str, shape: tuple[int, ...]) -> Tensor:
    """A standard normal tensor that depends on the name alone."""
    seed = int.from_bytes(sha256(name.encode()).digest()[:7], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def tokenizer(name: str, fit_on: Sequence[Sample], statistics: Mapping[str, Any] | None = None) -> Tokenizer:
    """Open ``numeric``, with the statistics of the training rows; ``tabpfn``, or a file of its weights."""
    if name == "numeric":
        return NumericTokens([sample.content for sample in fit_on], statistics)
    if name == "tabpfn" or Path(name).suffix in (".safetensors", ".ckpt"):
        from fedgram.modalities.tabpfn_rows import TabPfnRows

        return TabPfnRows(name, fit_on)
    raise DataError("unknown", where=f"tokenizer {name!r}", expected="numeric, tabpfn, or a file of its weights")


def fingerprint(content: Row) -> bytes:
    """The bytes of a row's names and values."""
    return repr((content.columns, content.values)).encode()


MODALITY = FileModality("tabular", read_table_samples, read_row, tokenizer, fingerprint, unlabelled.rows)
