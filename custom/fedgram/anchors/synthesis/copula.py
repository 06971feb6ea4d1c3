"""Rows of a table from a Gaussian copula for each concept, fitted on real public rows.

Each column keeps its own distribution (its observed quantiles), and the columns hang together as their normal
scores are correlated, shrunk towards no correlation the more the fewer the rows are (Ledoit & Wolf 2004).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata
from sklearn.covariance import ledoit_wolf

from fedgram.anchors.build import csv_bytes
from fedgram.anchors.synthesis import Generator
from fedgram.errors import AnchorError

LEAST_ROWS = 4
Quantile = Callable[[float], str]  # a cell for a number in [0, 1]
_MISSING = ("", "na", "nan", "n/a", "null", "none", "<na>")


@dataclass(frozen=True)
class Copula:
    """A Gaussian copula fitted over d columns.

    Attributes:
        columns: their names.
        quantiles: of each column: a cell for a number in [0, 1].
        missing: (n, d), which cells of the rows it was fitted on were missing; a drawn row misses what one of
            them does.
        root: (d, d), a square root of the correlation R of the normal scores.
    """

    columns: tuple[str, ...]
    quantiles: tuple[Quantile, ...]
    missing: NDArray[np.bool_]
    root: NDArray[np.float64]

    def draw(self, seed: int) -> list[str]:
        """Draw one row: x_j = F_j⁻¹(Φ(z_j)) with z ~ N(0, R); blank where missing."""
        generator = np.random.default_rng(seed)
        uniform = ndtr(self.root @ generator.standard_normal(len(self.columns)))
        missing = self.missing[generator.integers(len(self.missing))]
        return [
            "" if blank else quantile(u)
            for quantile, u, blank in zip(self.quantiles, uniform, missing, strict=True)
        ]


def fit_copula(rows: pd.DataFrame, where: str) -> Copula:
    """Fit a copula to a table of strings: a column holds numbers, or categories where a cell is none.

    Raises:
        AnchorError: fewer than 4 rows.
    """
    if len(rows) < LEAST_ROWS:
        raise AnchorError(
            f"{len(rows)} rows",
            where=where,
            expected=f"at least {LEAST_ROWS} to fit a copula, and a few dozen for one that means much",
            remedy="give a table of public rows, or leave the slots empty",
        )
    missing = np.stack([rows[c].str.strip().str.lower().isin(_MISSING) for c in rows.columns], axis=1)
    fitted = [_fit_column(rows[c].str.strip().tolist(), missing[:, i]) for i, c in enumerate(rows.columns)]
    covariance, _ = ledoit_wolf(np.stack([scores for scores, _ in fitted], axis=1), assume_centered=True)
    scale = np.sqrt(np.maximum(np.diag(covariance), 1e-12))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    root = vectors * np.sqrt(np.maximum(values, 0))
    root /= np.maximum(np.linalg.norm(root, axis=1, keepdims=True), 1e-12)  # unit variance, a constant column too
    return Copula(tuple(map(str, rows.columns)), tuple(quantile for _, quantile in fitted), missing, root)


def _fit_column(
    cells: Sequence[str], missing: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], Callable[[float], str]]:
    """Normal scores of a column, (n,), 0 where missing, and its quantile function."""
    scores, present = np.zeros(len(cells)), [cell for cell, blank in zip(cells, missing, strict=True) if not blank]
    if not present:
        return scores, lambda _: ""
    numbers = np.asarray(pd.to_numeric(pd.Series(present), errors="coerce"), dtype=np.float64)
    if np.isfinite(numbers).all():
        quantile, ranked = _numeric(np.sort(numbers), present), rankdata(numbers)
    else:
        ordered = sorted(present)
        quantile, ranked = _categorical(ordered), rankdata([ordered.index(cell) for cell in present])
    scores[~missing] = ndtri((ranked - 0.5) / len(present))
    return scores, quantile


def _numeric(ordered: NDArray[np.float64], cells: Sequence[str]) -> Quantile:
    """The quantiles of numbers: within the observed values, and with as many decimals as they have."""
    plain = not any("e" in cell.lower() for cell in cells)
    decimals = max(len(cell.partition(".")[2]) for cell in cells)

    def quantile(u: float) -> str:
        value = float(np.quantile(ordered, u, method="hazen"))  # the inverse of (rank − ½) / n
        return f"{value:.{decimals}f}" if plain else f"{value:.6g}"

    return quantile


def _categorical(ordered: Sequence[str]) -> Quantile:
    return lambda u: ordered[min(int(u * len(ordered)), len(ordered) - 1)]


def gaussian_copula(rows: Mapping[str, pd.DataFrame], fitted_on: str) -> Generator:
    """Make a generator of table rows by a :class:`Copula` for each concept.

    Args:
        rows: public ones by concept, strings, without id, concept and group.
        fitted_on: names them in the manifest.
    """

    def draw(concept: str, seeds: Sequence[int]) -> list[bytes]:
        copula = fit_copula(rows.get(concept, pd.DataFrame()), f"{concept}, tabular")
        return [csv_bytes(copula.columns, copula.draw(seed)) for seed in seeds]

    return Generator("tabular", ".csv", {"generator": "gaussian-copula", "fitted_on": fitted_on}, draw)
