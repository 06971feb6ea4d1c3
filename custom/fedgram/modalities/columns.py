"""Columns of a table for tokenizers: their standardisation, and fixed random numbers by the name alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import torch
from torch import Tensor

from fedgram.data.rows import Row, aligned, category, folded, is_missing
from fedgram.errors import DataError

LARGEST = 4.0  # size of a standardised value


@dataclass(frozen=True)
class ColumnScale:
    """Standardisation of one column: logarithm first if ``log``, then (x − mean) / std."""

    log: bool
    mean: float
    std: float

    def __call__(self, value: float) -> float:
        """Standardise, at most 4 from 0; a non-positive value has no logarithm and counts as −4."""
        if self.log and value <= 0:
            return -LARGEST
        x = math.log(value) if self.log else value
        return max(-LARGEST, min(LARGEST, (x - self.mean) / self.std))


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
    spread = float(x.std()) if np.ptp(x) else 1.0  # a constant column is only centred: its deviation is rounding
    return ColumnScale(log, float(x.mean()), spread)


def gaussian(name: str, shape: tuple[int, ...]) -> Tensor:
    """A standard normal tensor that depends on the name alone."""
    seed = int.from_bytes(sha256(name.encode()).digest()[:7], "big")
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def no_number(column: str, where: str) -> DataError:
    """The error of a cell that is a name where every training row has a number."""
    return DataError(
        f"column {column!r} is not a number",
        where=where,
        expected="a number, as in every training row of the site",
        remedy="all tables of a site, and its anchors, need the same columns in the same units",
    )


def remark_unknown(
    rows: Sequence[Row], columns: Sequence[str], categories: Mapping[str, Collection[str]]
) -> list[str]:
    """Say which columns have categories in some rows that a tokenizer does not know, and in how many.

    Args:
        columns: of the training rows.
        categories: that the tokenizer knows, by column.
    """
    known = {column: set(map(category, names)) for column, names in categories.items()}
    counts = Counter(
        column
        for row in rows
        for column, cell in zip(columns, aligned(row, columns), strict=True)
        if column in known and not is_missing(cell) and category(cell) not in known[column]
    )
    if not counts:
        return []
    found = folded([f"{column} in {count} of {len(rows)} rows" for column, count in counts.items()])
    return [f"categories that are not known from the training rows count as unknown: {found}"]
