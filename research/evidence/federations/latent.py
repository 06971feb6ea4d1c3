"""The modalities of the synthetic federation: rows of numbers that are tokens as they stand.

Site files name them ``research.evidence.federations.latent:SONAR`` and so on, as any modality of a user's own.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from fedgram.config.site import PLAIN, Reading
from fedgram.data.rows import read_table_samples
from fedgram.errors import DataError
from fedgram.modalities.base import Tokenizer
from fedgram.records import Sample, Tokens
from numpy.typing import NDArray

LENGTH, WIDTH = 4, 24  # L and d_m
COLUMNS = tuple(f"v{i}" for i in range(LENGTH * WIDTH))
_RESIDUE = 1e-5  # of the signal, in a collapsed encoder


@dataclass(frozen=True)
class Identity:
    """A tokenizer that takes (N, LENGTH · WIDTH) rows as (N, LENGTH, WIDTH) tokens.

    Attributes:
        collapsed: a broken encoder: next to a constant pattern hardly anything is left of the content.
    """

    collapsed: bool = False
    width: int = WIDTH

    @property
    def identity(self) -> str:
        return f"latent:1:{LENGTH}:{WIDTH}:{self.collapsed}"

    def __call__(self, contents: Sequence[NDArray[np.float32]]) -> Tokens:
        values = torch.from_numpy(np.stack(contents)).reshape(-1, LENGTH, WIDTH)
        if self.collapsed:
            values = torch.arange(WIDTH, dtype=torch.float32).sin() + _RESIDUE * values
        return Tokens(values, torch.ones(values.shape[:2], dtype=torch.bool))


@lru_cache(maxsize=64)
def _read(path: Path, reading: Reading) -> Sequence[Sample]:
    """The samples of a table, read once a process: a run asks for them twenty times, and no table ever changes."""
    return [
        replace(sample, content=np.array(sample.content.values, np.float32))
        for sample in read_table_samples(path, reading)
    ]


@dataclass(frozen=True)
class Latent:
    """A modality: one way of looking at the hidden scene."""

    name: str

    def read(self, path: Path, reading: Reading = PLAIN) -> list[Sample]:
        return list(_read(path, reading))

    def read_anchor(self, path: Path) -> NDArray[np.float32]:
        with path.open(newline="", encoding="utf-8") as file:
            _, row = csv.reader(file)
        return np.array(row, dtype=np.float32)

    def tokenizer(self, name: str, fit_on: Sequence[Sample]) -> Tokenizer:
        """The tokenizer ``identity``, or ``collapsed``."""
        if name not in ("identity", "collapsed"):
            raise DataError("unknown", where=f"tokenizer {name!r}", expected="identity or collapsed")
        return Identity(name == "collapsed")

    def fingerprint(self, content: NDArray[np.float32]) -> bytes:
        return content.tobytes()


SONAR, RADAR, LIDAR, THERMAL = (Latent(name) for name in ("sonar", "radar", "lidar", "thermal"))
KINDS = {kind.name: kind for kind in (SONAR, RADAR, LIDAR, THERMAL)}
