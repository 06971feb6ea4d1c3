"""The cells of the tables: what was asked in which case of which line, federation by federation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from statistics import mean
from typing import Any

from research.rows import Rows, read
from research.worth.statistics import Estimate, estimate
from research.worth.studies import FEDERATIONS, SKEW, STUDIES

ACCURACY, RETRIEVAL, NAMING = "accuracy", "r@1 by frame", "frozen naming"
THING, FINE = "thing by frame", "fine by frame"
MAPPED = "thing by ridge"  # the thing again, by a ridge map on the anchors
BY_CLASSES = "frozen r@1 by classes"
KEPT = "kept"  # the line of what sites of ours keep
TOLERATED = 0.005  # of accuracy below home
# What needs no training, by what it is held against; its columns are in the rows of home.
FLOORS: Mapping[str, str] = {
    ACCURACY: "frozen_lr",
    RETRIEVAL: "frozen r@1 by ridge",
    NAMING: "naming",
    THING: "frozen thing by ridge",
    MAPPED: "frozen thing by ridge",
    FINE: "frozen fine by ridge",
}
NUMBERS: Mapping[str, str] = {
    ACCURACY: "test_samples",
    RETRIEVAL: "r@1 n by frame",
    NAMING: "naming n",
    THING: "thing n by frame",
    MAPPED: "thing n by ridge",
    FINE: "thing n by frame",
}


@dataclass(frozen=True)
class Case:
    """A regime at one level.

    Attributes:
        regime, level, alpha: as in the rows.
        title: the level in words; empty where a regime has one level.
        measures: that are asked.
    """

    regime: str
    level: int
    alpha: float
    title: str
    measures: tuple[str, ...]


def _cases() -> Iterable[Case]:
    for shots in (1, 2, 4, 8):
        yield Case("few labels", shots, 0.0, "1 shot" if shots == 1 else f"{shots} shots", (ACCURACY, RETRIEVAL))
    for sites in (8, 16):
        yield Case("many sites", sites, 0.0, f"{sites} sites", (ACCURACY,))
        yield Case("many sites", sites, SKEW, f"{sites} sites at α = {SKEW}", (ACCURACY,))
    yield Case("foreign anchors", 0, 0.0, "", (ACCURACY, RETRIEVAL, NAMING))
    yield Case("the very thing", 0, 0.0, "", (ACCURACY, THING, MAPPED, FINE))


CASES = tuple(_cases())
REGIMES = tuple(dict.fromkeys(case.regime for case in CASES))
WITH_EVERY_LINE = next(case for case in CASES if (case.regime, case.level) == ("few labels", 4))


@dataclass(frozen=True)
class Asked:
    """A measure of a line, which may be :data:`KEPT`."""

    line: str
    measure: str

    @property
    def column(self) -> tuple[str, str]:
        """The line whose rows have it, and the column."""
        if self.measure == NAMING:  # by the directory, which is of frozen tokens; home has none and can only guess
            return "home", "naming chance" if self.line == "home" else NAMING
        return ("ours", f"kept {self.measure}") if self.line == KEPT else (self.line, self.measure)


class Cells:
    """All rows of the studies, asked by case, federation and seed."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    @classmethod
    def of(cls, folder: Path) -> Cells:
        """Read the rows of all studies in a folder."""
        return cls([row for study in STUDIES for row in read(folder / f"{study}.csv")])

    @cached_property
    def _by_key(self) -> dict[tuple[Any, ...], dict[tuple[str, int], dict[str, Any]]]:
        found: dict[tuple[Any, ...], dict[tuple[str, int], dict[str, Any]]] = {}
        for row in self.rows:
            key = (row["regime"], row["level"], row["alpha"], row["line"])
            found.setdefault(key, {})[row["federation"], row["seed"]] = row
        return found

    def values(self, case: Case, asked: Asked) -> dict[tuple[str, int], float]:
        """The values of a measure by federation and seed."""
        line, column = asked.column
        rows = self._by_key.get((case.regime, case.level, case.alpha, line), {})
        return {key: row[column] for key, row in rows.items() if column in row}

    def by_federation(self, case: Case, asked: Asked, against: Asked | None = None) -> dict[str, list[float]]:
        """The values over seeds of each federation, less those of another line on the same seeds."""
        own = self.values(case, asked)
        if against is not None:
            other = self.values(case, against)
            own = {key: own[key] - other[key] for key in own if key in other}
        return {
            name: [value for (federation, _), value in sorted(own.items()) if federation == name]
            for name in FEDERATIONS
            if any(federation == name for federation, _ in own)
        }

    def pooled(self, case: Case, asked: Asked, against: Asked | None = None) -> Estimate:
        """The mean over federations of their means over seeds; a federation is the unit of its interval."""
        return estimate([mean(seeds) for seeds in self.by_federation(case, asked, against).values()])

    def lead(self, case: Case, line: str, measure: str = ACCURACY) -> Estimate:
        """The pooled difference of a line to home."""
        return self.pooled(case, Asked(line, measure), Asked("home", measure))

    def alone_of(self, case: Case, line: str, measure: str = ACCURACY) -> dict[str, Estimate]:
        """The difference of a line to home in each federation; a seed is the unit of its interval."""
        found = self.by_federation(case, Asked(line, measure), Asked("home", measure))
        return {name: estimate(seeds) for name, seeds in found.items()}

    def blind(self, case: Case, measure: str) -> dict[str, bool]:
        """Whether, by federation, ours with a frozen B is as good as ours, within the interval over seeds."""
        found = self.by_federation(case, Asked("ours", measure), Asked("frozen B", measure))
        return {name: estimate(seeds).open for name, seeds in found.items()}

    def tested(self, case: Case, measure: str) -> dict[str, float]:
        """How many test items there are in each federation, on average over seeds: of accuracy at one site."""
        found = self.by_federation(case, Asked("home", NUMBERS[measure]))
        return {name: mean(seeds) for name, seeds in found.items()}
