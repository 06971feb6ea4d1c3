"""Words that follow from numbers, so that a sentence of the page cannot say what the rows do not."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from research.worth.cells import (
    ACCURACY,
    CASES,
    FLOORS,
    KEPT,
    REGIMES,
    TOLERATED,
    WITH_EVERY_LINE,
    Asked,
    Case,
    Cells,
)
from research.worth.statistics import Estimate, estimate, holm, points
from research.worth.trial import BROKEN, SPOILT

_KINDS: Sequence[tuple[str, Callable[[Estimate], bool]]] = (
    ("above", lambda e: e.above),
    ("below", lambda e: e.below),
    ("open", lambda e: e.open),
    ("single", lambda e: e.units == 1),
    ("unknown", lambda e: e.units == 0),
)
_SAID = {
    "above": "above {}",
    "below": "below {}",
    "open": "not shown to differ from {}",
    "single": "measured in one federation only, against {}",
    "unknown": "not measured against {}",
}


def kind_of(found: Estimate) -> str:
    """Whether an estimate is ``above`` 0, ``below`` it, ``open``, of a ``single`` unit or ``unknown``."""
    return next(name for name, holds in _KINDS if holds(found))


def listed(words: Iterable[str]) -> str:
    """Some words as a sentence has them: a, b and c."""
    *some, last = words
    return f"{', '.join(some)} and {last}" if some else last


def told(found: Iterable[tuple[str, Estimate]], than: str = "home") -> str:
    """Several differences in one phrase, those of a kind together.

    Args:
        found: names, which may be empty, and differences.
        than: what they are differences to.
    """
    by_kind: dict[str, list[str]] = {}
    for name, e in found:
        by_kind.setdefault(kind_of(e), []).append(": ".join(filter(None, (name, str(e) if e.units else ""))))
    said = []
    for kind in (name for name, _ in _KINDS if name in by_kind):
        inside = ", ".join(filter(None, by_kind[kind]))
        said.append(_SAID[kind].format(than) + (f" ({inside})" if inside else ""))
    return "; ".join(said)


def places(cases: Iterable[Case]) -> str:
    """Cases by regime: the name of a regime alone where all its levels are meant; empty without any."""
    levels: dict[str, list[str]] = {}
    for case in cases:
        levels.setdefault(case.regime, []).append(case.title)
    whole = {regime: [c.title for c in CASES if c.regime == regime] for regime in REGIMES}
    names = [r if own == whole[r] else f"{r} ({'; '.join(own)})" for r, own in levels.items()]
    return listed(names) if names else ""


@dataclass(frozen=True)
class Shortfalls:
    """In how many federations and cases something is worse than something else by more than is tolerated.

    Attributes:
        cells: compared.
        short: of these, worse by more than :data:`~research.worth.cells.TOLERATED`.
        surely: of these, with an interval over seeds below 0.
        worst: the largest loss, and where.
    """

    cells: int
    short: int
    surely: int
    worst: Estimate
    where: str


class Words:
    """Everything that the templates of the pages may say about the regimes."""

    def __init__(self, cells: Cells) -> None:
        self.cells = cells

    def cases(self, regime: str, measure: str = ACCURACY) -> list[Case]:
        """The cases of a regime that have a measure."""
        return [case for case in CASES if case.regime == regime and measure in case.measures]

    def told(self, regime: str, line: str, measure: str = ACCURACY) -> str:
        """How a line stands to home at every level of a regime."""
        return told((c.title, self.cells.lead(c, line, measure)) for c in self.cases(regime, measure))

    def against_floor(self, regime: str, column: str, measure: str = ACCURACY) -> str:
        """How together stands to something untrained at every level of a regime."""
        found = [
            (c.title, self.cells.pooled(c, Asked("ours", measure), Asked("home", column)))
            for c in self.cases(regime, measure)
        ]
        return told(found, "it")

    def leads(self, line: str, measure: str = ACCURACY, regime: str = "") -> dict[Case, Estimate]:
        """The differences of a line to home by case: of all regimes, or of one."""
        found = {c: self.cells.lead(c, line, measure) for c in CASES if measure in c.measures}
        return {c: e for c, e in found.items() if e.units and regime in ("", c.regime)}

    def where(self, kind: str, line: str, measure: str = ACCURACY) -> str:
        """The cases in which the difference of a line to home is of a kind; empty without any."""
        return places(c for c, e in self.leads(line, measure).items() if kind_of(e) == kind)

    def surviving_of(self, line: str, measure: str = ACCURACY) -> str:
        """The cases in which a line is above home after Holm's correction; empty without any."""
        survives = dict(zip(self.family, holm([*self.family.values()]), strict=True))
        leads = self.leads(line, measure)
        return places(c for c, e in leads.items() if e.above and survives[c, measure, line])

    def spread(self, line: str, measure: str = ACCURACY, regime: str = "", kind: str = "") -> str:
        """The least and the largest difference of a line to home, of all cases, of a regime or of a kind."""
        found = sorted(e.mean for e in self.leads(line, measure, regime).values() if kind in ("", kind_of(e)))
        if not found:
            return "not measured"
        return " to ".join(dict.fromkeys((points(found[0]), points(found[-1]))))

    def summary(self, regime: str, line: str, measure: str = ACCURACY) -> str:
        """The spread of a line's lead over home in a regime, and at how many levels 0 is excluded."""
        found = [*self.leads(line, measure, regime).values()]
        if not found:
            return "not measured"
        above, below = sum(e.above for e in found), sum(e.below for e in found)
        shown = [f"shown in {above} of {len(found)}"] + ([f"a loss in {below}"] if below else [])
        return f"{self.spread(line, measure, regime)} ({', '.join(shown)})"

    def levels_of(self, regime: str, line: str, kind: str, measure: str = ACCURACY) -> dict[str, tuple[int, int]]:
        """At how many of its levels a federation differs from home in a way of its own, over its seeds."""
        found: dict[str, tuple[int, int]] = {}
        for case in self.cases(regime, measure):
            for federation, own in self.cells.alone_of(case, line, measure).items():
                so_far, levels = found.get(federation, (0, 0))
                found[federation] = so_far + (kind_of(own) == kind), levels + 1
        return {federation: counted for federation, counted in found.items() if counted[0]}

    def named(self, regime: str, line: str, kind: str, measure: str = ACCURACY) -> str:
        """The federations that differ from home in a way at some level, and at how many; ``none`` without any."""
        found = self.levels_of(regime, line, kind, measure)
        return (
            listed(f"{name} ({some} of {levels})" for name, (some, levels) in found.items()) if found else "none"
        )

    def everywhere(self, line: str) -> str:
        """The cases in which all federations, three or more, are above home by their seeds."""
        found = []
        for case in CASES:
            own = self.cells.alone_of(case, line).values()
            if len(own) > 2 and all(kind_of(e) == "above" for e in own):
                found.append(case)
        return places(found)

    def mostly(self, line: str, kind: str) -> str:
        """The federations that differ from home in a way at more than half of a regime's levels, by regime."""
        said = []
        for regime in REGIMES:
            found = self.levels_of(regime, line, kind)
            if own := [name for name, (some, levels) in found.items() if 2 * some > levels]:
                said.append(f"{regime} on {listed(own)}")
        return "; with ".join(said)

    def tally(self, regime: str, line: str, measure: str = ACCURACY) -> tuple[int, int]:
        """How often a federation is above home at a level of a regime, over its seeds, and how often below."""
        above, below = (self.levels_of(regime, line, kind, measure).values() for kind in ("above", "below"))
        return sum(some for some, _ in above), sum(some for some, _ in below)

    def floor_wins(self, regime: str) -> bool:
        """Whether logistic regression on frozen tokens is above together in the own task, at some level."""
        floor = Asked("home", FLOORS[ACCURACY])
        return any(self.cells.pooled(c, Asked("ours", ACCURACY), floor).below for c in self.cases(regime))

    def verdict(self, regime: str, *measures: str) -> str:
        """What some measures of a regime say of together against home, over all of its levels.

        Returns:
            ``pays`` or ``costs`` where the mean over federations is above or below home somewhere, and never the
            other way; ``depends`` where that is not so and more single federations are above than below; ``open``
            where nothing is shown; ``unknown`` without rows.
        """
        asked = measures or (ACCURACY,)
        found = [e for m in asked for e in self.leads("ours", m, regime).values()]
        above, below = any(e.above for e in found), any(e.below for e in found)
        if above != below:
            return "pays" if above else "costs"
        more, fewer = (sum(self.tally(regime, "ours", m)[k] for m in asked) for k in (0, 1))
        return "depends" if more > fewer else "open" if found else "unknown"

    def between(self, line: str, other: str, measure: str = ACCURACY) -> Estimate:
        """The difference of two lines, or of a line and an untrained floor, where all lines are run."""
        floor = Asked("home", other.removeprefix("floor: "))
        against = floor if other.startswith("floor: ") else Asked(other, measure)
        return self.cells.pooled(WITH_EVERY_LINE, Asked(line, measure), against)

    def shortfalls(self, of: str = KEPT, against: Asked | None = None) -> Shortfalls:
        """Where a line is worse in its own task than home, or than something else, by more than is tolerated."""
        home = against or Asked("home", ACCURACY)
        found: list[tuple[str, Estimate]] = []
        for case in CASES:
            for federation, seeds in self.cells.by_federation(case, Asked(of, ACCURACY), home).items():
                named = ", ".join(filter(None, (federation, case.regime, case.title)))
                found.append((named, estimate(seeds)))
        short = [e for _, e in found if e.mean < -TOLERATED]
        where, worst = min(found, key=lambda one: one[1].mean, default=("", estimate([])))
        return Shortfalls(len(found), len(short), sum(e.below for e in short), worst, where)

    def broken(self) -> list[tuple[str, Estimate, Estimate, Estimate | None]]:
        """By what is spoilt: what sites keep, the site that fares worst, and the worst of those with good data.

        Each is against the homes of the same run; the last is there where one site has bad data.
        """
        found = []
        for name in BROKEN:
            case = Case(name, WITH_EVERY_LINE.level, 0.0, "", (ACCURACY,))
            kept = self.cells.pooled(case, Asked(KEPT, ACCURACY), self.own_home)
            worst = self.cells.pooled(case, Asked("ours", "worst gain"))
            others = self.cells.pooled(case, Asked("ours", "worst other gain")) if name in SPOILT else None
            found.append((name, kept, worst, others))
        return found

    @property
    def own_home(self) -> Asked:
        """Home as the run of ours has it: under the federation's settings, and part of what is kept."""
        return Asked("ours", f"own rate {ACCURACY}")

    @cached_property
    def family(self) -> dict[tuple[Case, str, str], Estimate]:
        """All differences that the table of regimes holds, by case, measure and line."""
        asked = ((case, m, line) for case in CASES for m in case.measures for line in ("ours", KEPT))
        return {(case, m, line): self.cells.lead(case, line, m) for case, m, line in asked}

    @property
    def counted(self) -> tuple[int, int, int]:
        """How many differences of the table of regimes have an interval, have one without 0, and survive Holm."""
        found = [*self.family.values()]
        return sum(e.units > 1 for e in found), sum(e.above or e.below for e in found), sum(holm(found))
