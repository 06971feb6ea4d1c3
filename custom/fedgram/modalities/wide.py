"""Tables of thousands of columns: one token a row, of its place along the main directions of the training rows."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import astuple
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from fedgram.data.rows import Cell, Row, aligned, category, is_missing
from fedgram.errors import DataError
from fedgram.modalities.columns import LARGEST, fit_scale, gaussian, no_number, remark_unknown
from fedgram.records import Tokens

_ROWS = 1024  # of the training rows, evenly taken, for the directions
_EACH, _FEWEST, _MOST = 10, 8, 128  # training rows for each direction; the least and the greatest number of them
_CATEGORIES = 16  # of one column, the most frequent
_CHUNK = 4096  # columns whose random numbers are there at once


class WideTokens:
    """One token per row: where it stands along the main directions of the training rows, in a frozen random code.

    A column of numbers is standardised (:class:`~fedgram.modalities.columns.ColumnScale`), and missing is 0; each
    of the 16 most frequent categories of a column is a column of 0 and 1; all are centred. Of these D columns,
    V: (D, K) are the first K principal directions of the training rows. The token of a row z is Rᵀ V Vᵀ z / √D:
    the row as far as the data vary, in terms of columns, of which R: (D, d_m) gives each a Gaussian code by its
    name alone. So nothing depends on signs or the order of directions, and two tables with the same columns speak
    of the same tokens, as far as they vary alike. What varies most is heard most: divided by their standard
    deviations, all directions would be as loud as the noise.

    K is a tenth of the training rows, from 8 to 128. Cost grows linearly with D.

    Raises:
        DataError: no training rows, a column without a value in any, or rows that are all alike.
    """

    width = 512

    def __init__(self, rows: Sequence[Row], statistics: Mapping[str, Any] | None = None):
        self.statistics = statistics or _fit(rows)
        self._table = _Table(**{name: self.statistics[name] for name in ("columns", "scales", "categories")})
        self._centre = _decoded(self.statistics["centre"])
        self._directions = _decoded(self.statistics["directions"]).reshape(len(self._centre), -1)
        self._code = self._coded()
        self.identity = f"wide:2:{self.width}:{sha256(json.dumps(self.statistics).encode()).hexdigest()}"
        self.family = f"wide:2:{self.width}:{self._table.columns}"

    def __call__(self, contents: Sequence[Row]) -> Tokens:
        centred = self._table.standardise(contents) - self._centre
        values = np.stack(
            [(row @ self._directions) @ self._code for row in centred]
        )  # whatever else is in a batch
        return Tokens(torch.from_numpy(values.astype(np.float32))[:, None], torch.ones(len(contents), 1).bool())

    def remarks(self, contents: Sequence[Row]) -> list[str]:
        """Say where categories are that are not among the frequent ones of the training rows."""
        return remark_unknown(contents, self._table.columns, self.statistics["categories"])

    def _coded(self) -> np.ndarray:
        """Vᵀ R / √D, (K, d_m)."""
        names, code = self._table.names(), np.zeros((self._directions.shape[1], self.width))
        for start in range(0, len(names), _CHUNK):
            chunk = [gaussian(name, (self.width,)) for name in names[start : start + _CHUNK]]
            code += self._directions[start : start + _CHUNK].T @ torch.stack(chunk).double().numpy()
        return code / len(names) ** 0.5


class _Table:
    """Rows as D standardised columns: those of numbers, then one for each category of the others."""

    def __init__(
        self, columns: Sequence[str], scales: Sequence[Sequence[Any]], categories: Mapping[str, Sequence[str]]
    ):
        self.columns, self._categories = tuple(columns), categories
        self._numbers = [i for i, name in enumerate(self.columns) if name not in categories]
        self._coded = [(i, categories[name]) for i, name in enumerate(self.columns) if name in categories]
        self._log, self._mean, self._std = np.array(scales, dtype=float).reshape(-1, 3).T
        self._log = self._log.astype(bool)

    def names(self) -> list[str]:
        """The names of the D columns."""
        numbers = [self.columns[i] for i in self._numbers]
        return numbers + [f"{self.columns[i]}={name}" for i, known in self._coded for name in known]

    def standardise(self, rows: Sequence[Row]) -> np.ndarray:
        """Standardised numbers and columns of categories, (N, D)."""
        cells = [aligned(row, self.columns) for row in rows]
        values = numbers_of(rows, self.columns, self._numbers)
        low = self._log & (values <= 0)
        logs = np.log(values, where=self._log & (values > 0), out=values.copy())
        numbers = np.clip((logs - self._mean) / self._std, -LARGEST, LARGEST)
        numbers[low] = -LARGEST
        coded = [
            ([None if is_missing(row[i]) else category(row[i]) for row in cells], map(category, known))
            for i, known in self._coded
        ]
        named = [[cell == name for cell in column] for column, known in coded for name in known]
        categories = np.array(named, dtype=float).reshape(-1, len(rows)).T
        return np.concatenate([np.nan_to_num(numbers), categories], axis=1)


def numbers_of(rows: Sequence[Row], columns: Sequence[str], which: Sequence[int]) -> np.ndarray:
    """Columns of numbers, (N, their number), NaN where missing.

    Raises:
        DataError: a name where a number is due.
    """
    values = []
    for row in rows:
        cells = aligned(row, columns)
        wrong = next((i for i in which if isinstance(cells[i], str)), None)
        if wrong is not None:
            raise no_number(columns[wrong], row.source)
        values.append([cells[i] for i in which])
    return np.array(values, dtype=float).reshape(len(rows), -1)


def _fit(rows: Sequence[Row]) -> dict[str, Any]:
    """Everything that the tokenizer takes of training rows, as JSON: scales, categories, mean, V."""
    if not rows:
        raise DataError("no training rows to fit on", where="tokenizer 'wide'")
    columns = rows[0].columns
    cells = zip(*(aligned(row, columns) for row in rows), strict=True)
    categories = {
        name: _frequent(column)
        for name, column in zip(columns, cells, strict=True)
        if any(isinstance(cell, str) for cell in column)
    }
    which = [i for i, name in enumerate(columns) if name not in categories]
    values = numbers_of(rows, columns, which)
    scales = [[*astuple(fit_scale(columns[i], values[:, n]))] for n, i in enumerate(which)]
    standard = _Table(columns, scales, categories).standardise(rows[:: -(-len(rows) // _ROWS)])
    centre = standard.mean(axis=0)
    count = max(_FEWEST, min(_MOST, len(rows) // _EACH))
    return {
        "columns": [*columns],
        "scales": scales,
        "categories": categories,
        "centre": _encoded(centre),
        "directions": _encoded(principal(standard - centre, count)),
    }


def principal(centred: np.ndarray, count: int) -> np.ndarray:
    """Find V, (D, K), of centred rows (N, D): their first principal directions, at most ``count``, of length 1.

    They come from the Gram matrix of the rows, (N, N), however many columns there are.

    Raises:
        DataError: the rows are all alike.
    """
    squares, left = np.linalg.eigh(centred @ centred.T)
    squares, left = squares[::-1][:count], left[:, ::-1][:, :count]
    there = squares > 1e-9 * max(squares[0], 1e-9)
    if not there.any():
        raise DataError("all training rows are alike", where="tokenizer 'wide'", remedy="look at the columns")
    squares, left = squares[there], left[:, there]
    return centred.T @ (left / squares**0.5)


def _encoded(values: np.ndarray) -> str:
    """Numbers as text, rounded to float32: they are many."""
    return b64encode(values.astype("<f4").tobytes()).decode()


def _decoded(text: str) -> np.ndarray:
    return np.frombuffer(b64decode(text), dtype="<f4").astype(float)


def _frequent(cells: Sequence[Cell]) -> list[str]:
    """The most frequent categories among some cells, sorted."""
    counted = Counter(category(cell) for cell in cells if not is_missing(cell))
    return sorted(sorted(counted, key=lambda name: (-counted[name], name))[:_CATEGORIES])
