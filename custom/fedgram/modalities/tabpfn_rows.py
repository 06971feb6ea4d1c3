"""Tables through TabPFN (Hollmann 2025): rows as it represents them among a site's own labelled rows.

TabPFN has no representation of a row by itself: it reads a labelled table as context and the row against it.
Context are the site's *training* rows, never a test row. Public anchors and test rows are embedded in the same
way, against all of them. The public anchors would be no context: they are few, and one row for each slot tells
TabPFN nothing about the site's own columns.

A training row, with its own label in the context, would carry that label in its embedding, and the site's head
would learn to read it there, where no test row has one. So training rows are embedded out of fold (Ye 2025): each
against the training rows of other groups, with which it shares no patient.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.model_selection import GroupKFold

from fedgram.data.rows import Cell, Row, aligned, category, is_missing
from fedgram.errors import DataError
from fedgram.modalities.columns import remark_unknown
from fedgram.records import Sample, Tokens

_ESTIMATORS = 4  # L: views of the table, each with its own order of columns and classes; one token of each
_FOLDS = 5


class TabPfnRows:
    """TabPFN's own embedding of a row, one token from each of L estimators, float32.

    Args:
        name: ``tabpfn``, for the default weights in TabPFN's own cache, or the file of a checkpoint.
        fit_on: training samples; targets are classes or numbers, else their concepts are the classes.

    Raises:
        DataError: TabPFN or its weights are not there, or it cannot be fitted.
    """

    def __init__(self, name: str, fit_on: Sequence[Sample]):
        self._where = f"tokenizer {name!r}"
        if importlib.util.find_spec("tabpfn") is None:
            raise DataError(
                "the package tabpfn is not installed",
                where=self._where,
                remedy="pip install 'fedgram[tabular]'",
            )
        self._targets = _targets(fit_on, self._where)
        self._weights = _weights(name, self._regresses, self._where)
        self._device = "cpu"
        self._rows: list[Row] = [sample.content for sample in fit_on]
        self._columns = self._rows[0].columns
        cells = zip(*(aligned(row, self._columns) for row in self._rows), strict=True)
        self._categories = {
            name: _codes({category(cell) for cell in column if not is_missing(cell)})
            for name, column in zip(self._columns, cells, strict=True)
            if any(isinstance(cell, str) for cell in column)
        }
        self._context = self._frame(self._rows)
        first: dict[Any, str] = {}  # equal rows are one group: neither may be in the other's context
        self._groups = [first.setdefault(_key(s.content), s.group) for s in fit_on]
        self._whole, self._known = self._fit(slice(None)), {}
        self.width = self._embed(self._whole, self._rows[:1]).shape[-1]
        fitted = repr((version("tabpfn"), self._columns, list(map(_key, self._rows)), self._targets, self._groups))
        weights = sha256(self._weights.read_bytes()).hexdigest()
        self.identity = f"tabpfn:1:{_ESTIMATORS}:{_FOLDS}:{weights}:{sha256(fitted.encode()).hexdigest()}"

    def to(self, device: torch.device) -> None:
        """Compute on this device from now on."""
        self._device = str(device)
        self._whole.to(self._device)

    def __call__(self, contents: Sequence[Row]) -> Tokens:
        self._known = self._known or self._out_of_fold()
        values = torch.zeros(len(contents), _ESTIMATORS, self.width)
        others = [i for i, row in enumerate(contents) if _key(row) not in self._known]
        for i in set(range(len(contents))) - set(others):
            values[i] = self._known[_key(contents[i])]
        if others:
            values[others] = self._embed(self._whole, [contents[i] for i in others])
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))

    def remarks(self, contents: Sequence[Row]) -> list[str]:
        """Say where categories are that no training row has."""
        return remark_unknown(contents, self._columns, self._categories)

    @property
    def _regresses(self) -> bool:
        return isinstance(self._targets[0], float)

    def _out_of_fold(self) -> dict[Any, torch.Tensor]:
        """Tokens (L, d_m) of every training row, by its content, from folds that do not hold it."""
        folds = GroupKFold(min(_FOLDS, len(set(self._groups))))  # by group alone: a fold says nothing of a label
        found = {}
        for context, rows in folds.split(self._context, groups=self._groups):
            embedded = self._embed(self._fit(context), [self._rows[i] for i in rows])
            found |= {_key(self._rows[i]): one for i, one in zip(rows, embedded, strict=True)}
        return found

    def _fit(self, rows: Any) -> Any:
        """Give TabPFN some of the training rows as context."""
        from tabpfn import TabPFNClassifier, TabPFNRegressor

        kind = TabPFNRegressor if self._regresses else TabPFNClassifier
        model = kind(
            model_path=self._weights,
            n_estimators=_ESTIMATORS,
            device=self._device,
            inference_precision=torch.float32,
            random_state=0,
        )
        try:
            return model.fit(self._context.iloc[rows], np.array(self._targets)[rows])
        except (ValueError, TypeError, RuntimeError, KeyError) as error:  # its message may hold a value
            raise DataError(
                f"cannot be fitted to {len(self._targets)} training rows ({type(error).__name__})",
                where=self._where,
                expected="weights for this task, and a table within TabPFN's limits of rows, columns and classes",
            ) from error

    def _embed(self, model: Any, rows: Sequence[Row]) -> torch.Tensor:
        """Tokens of rows, (N, L, d_m)."""
        embedded = np.asarray(model.get_embeddings(self._frame(rows)), dtype=np.float32)
        return torch.from_numpy(embedded.reshape(_ESTIMATORS, len(rows), -1)).transpose(0, 1)

    def _frame(self, rows: Sequence[Row]) -> pd.DataFrame:
        """Rows in the columns of the training table; a category that no training row has is missing."""
        cells = [aligned(row, self._columns) for row in rows]
        frame = pd.DataFrame(index=range(len(rows)))
        for i, name in enumerate(self._columns):
            column = [row[i] for row in cells]
            if known := self._categories.get(name):
                codes = [known.get(category(cell), -1) for cell in column]
                frame[name] = pd.Categorical.from_codes(codes, pd.Index(list(known)))
            else:
                frame[name] = np.array([_number(cell, name, row) for cell, row in zip(column, rows, strict=True)])
        return frame


def _codes(names: set[str]) -> dict[str, int]:
    return {name: code for code, name in enumerate(sorted(names))}


def _key(row: Row) -> tuple[Any, ...]:
    return tuple(
        sorted((name, "" if is_missing(v) else v) for name, v in zip(row.columns, row.values, strict=True))
    )


def _number(cell: Cell, column: str, row: Row) -> float:
    if isinstance(cell, str):
        raise DataError(
            f"column {column!r} is not a number",
            where=row.source,
            expected="a number, as in every training row of the site",
        )
    return cell


def _targets(samples: Sequence[Sample], where: str) -> list[Any]:
    targets = [s.target if isinstance(s.target, str | float) else s.concept for s in samples]
    if len(set(targets)) < 2 or "" in targets or len({s.group for s in samples}) < 2:
        raise DataError(
            f"{len(targets)} training rows of {len(set(targets))} classes or values",
            where=where,
            expected="a class or a number for each row, at least two of them, and two groups",
            remedy="use the tokenizer 'numeric'",
        )
    return targets


def _weights(name: str, regresses: bool, where: str) -> Path:
    """Find the checkpoint's file; TabPFN would start a download, which asks for a licence on the terminal."""
    path = Path(name).expanduser()
    if name == "tabpfn":
        from tabpfn.model_loading import ModelType, resolve_model_path
        from tabpfn.settings import settings

        kind = ModelType.REGRESSOR if regresses else ModelType.CLASSIFIER
        path = resolve_model_path(None, kind.value, settings.tabpfn.model_version.value)[0][0]
    if not path.is_file():
        raise DataError(
            f"no weights at {path}",
            where=where,
            remedy="fit a TabPFN of the package tabpfn once on this machine, which asks to accept Prior Labs' "
            "licence and downloads them; or name the file of a checkpoint as tokenizer",
        )
    return path
