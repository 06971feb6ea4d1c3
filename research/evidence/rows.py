"""The table of a study: one row for every run, kept as CSV."""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pandas as pd

from research.evidence.experiment import Experiment
from research.evidence.measure import Row

RESULTS = Path(__file__).resolve().parents[1] / "results"
KEYS = [field.name for field in fields(Experiment)]
Rows = list[dict[str, Any]]


def read(path: Path) -> Rows:
    """The rows of a study, without the measures that a row does not have; none before its first run."""
    if not path.exists():
        return []
    rows: Rows = pd.read_csv(path).to_dict("records")  # pyright: ignore[reportAssignmentType]
    return [{name: value for name, value in row.items() if value == value} for row in rows]


def done(path: Path) -> set[Experiment]:
    """The experiments that have a row."""
    return {Experiment(**{name: row[name] for name in KEYS}) for row in read(path)}


def append(path: Path, experiment: Experiment, row: Row) -> None:
    """Add a row, in order; the file is replaced at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = {**asdict(experiment), **{name: round(value, 6) for name, value in row.items()}}
    table = pd.DataFrame([*read(path), fresh]).sort_values(
        ["split", "federation", "sites", "alpha", "broken", "pairs", "method", "seed"]
    )
    part = path.with_suffix(".part")
    table.to_csv(part, index=False, lineterminator="\n")
    part.replace(path)
