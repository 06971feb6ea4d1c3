"""The tables of the page, and the table by federation that lies beside the rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from research.rows import Rows
from research.worth.cells import (
    ACCURACY,
    BY_CLASSES,
    CASES,
    FLOORS,
    KEPT,
    NAMING,
    RETRIEVAL,
    WITH_EVERY_LINE,
    Asked,
    Case,
    Cells,
)
from research.worth.lines import LINES
from research.worth.statistics import Estimate, estimate, holm

SURVIVES, BLIND = "†", "◦"
MEASURES: Mapping[str, str] = {
    ACCURACY: "own task",
    RETRIEVAL: "R@1",
    NAMING: "naming",
    "thing by frame": "the thing",
    "thing by ridge": "the thing, ridge map",
    "fine by frame": "its fine class",
}
TITLES: Mapping[str, str] = {name: line.title for name, line in LINES.items()} | {KEPT: "what its sites keep"}
ORDER = tuple(name for line in LINES for name in ((line, KEPT) if line == "ours" else (line,)))
# Below the lines: what needs no training, and the other way of reading what was trained. Own task, retrieval.
_BELOW: Mapping[str, tuple[Asked | None, Asked | None]] = {
    "untrained: logistic regression on frozen tokens": (Asked("home", "frozen_lr"), None),
    "untrained: k nearest frozen tokens": (Asked("home", "frozen_knn"), None),
    "untrained: nearest class mean of the own anchors": (Asked("home", "own_anchors"), None),
    "untrained: frozen tokens in the frame": (None, Asked("home", "frozen r@1 by frame")),
    "untrained: ridge map on anchors": (None, Asked("home", FLOORS[RETRIEVAL])),
    "untrained: probabilities of the classes that both sites know": (None, Asked("home", BY_CLASSES)),
    "home, by a ridge map on anchors": (None, Asked("home", "r@1 by ridge")),
    "GeoLoRA with groups, by a ridge map": (None, Asked("ours", "r@1 by ridge")),
}


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first column is of words, the others of numbers."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def span(numbers: Sequence[float]) -> str:
    """The least and the most of some numbers."""
    found = sorted(round(n) for n in numbers)
    return "–" if not found else f"{found[0]:,}" if found[0] == found[-1] else f"{found[0]:,}–{found[-1]:,}"


def marked(estimates: Sequence[Estimate], blind: Sequence[bool] = ()) -> list[str]:
    """Differences with the marks of Holm's test over all of them, and of cells that cannot tell."""
    blind = blind or [False] * len(estimates)
    return [
        f"{e}{SURVIVES if survives else ''}{BLIND if dark else ''}"
        for e, survives, dark in zip(estimates, holm(estimates), blind, strict=True)
    ]


def lines(cells: Cells) -> str:
    """All lines at one number of shots: own task and retrieval, and the differences to home."""
    case, measures = WITH_EVERY_LINE, (ACCURACY, RETRIEVAL)
    asked = [(line, measure) for line in ORDER for measure in measures]
    shown = dict(
        zip(
            asked,
            marked(
                [no_lead() if line == "home" else cells.lead(case, line, m) for line, m in asked],
                [line == "ours" and all_blind(cells, case, m) for line, m in asked],
            ),
            strict=True,
        )
    )
    found = []
    for line in ORDER:
        per = cells.by_federation(case, Asked(line, ACCURACY))
        parts = [(cells.pooled(case, Asked(line, m)).level, shown[line, m]) for m in measures]
        found.append([TITLES[line], *(cell for part in parts for cell in part), str(len(per))])
    for title, columns in _BELOW.items():
        row, units = [title], 0
        for measure, of in zip(measures, columns, strict=True):
            lead = cells.pooled(case, of, Asked("home", measure)) if of else no_lead()
            row += [cells.pooled(case, of).level if of else "–", str(lead)]
            units = max(units, lead.units)
        found.append([*row, str(units)])
    tested = [span([*cells.tested(case, m).values()]) for m in measures]
    header = ["line", f"own task, n = {tested[0]}", "− home", f"R@1, n = {tested[1]}", "− home", "k"]
    return markdown(header, found)


def cases(cells: Cells) -> str:
    """Together and kept against home, in every regime and at every level."""
    asked = [(case, measure) for case in CASES for measure in case.measures]
    estimates = [cells.lead(case, line, measure) for case, measure in asked for line in ("ours", KEPT)]
    shown = marked(estimates)
    found = []
    for k, (case, measure) in enumerate(asked):
        per = [*cells.alone_of(case, "ours", measure).values()]
        found.append(
            [
                ", ".join(filter(None, (case.regime, case.title))),
                MEASURES[measure],
                span([*cells.tested(case, measure).values()]),
                cells.pooled(case, Asked("home", FLOORS[measure])).level,
                cells.pooled(case, Asked("home", measure)).level,
                shown[2 * k],
                f"{sum(e.above for e in per)} / {sum(e.below for e in per)}" if per else "–",
                shown[2 * k + 1],
                str(len(per)),
            ]
        )
    header = [
        "regime",
        "measure",
        "n",
        "untrained",
        "home",
        "together − home",
        "above / below",
        "kept − home",
        "k",
    ]
    return markdown(header, found)


def all_blind(cells: Cells, case: Case, measure: str) -> bool:
    """Whether a frozen B is as good as a trained one over federations, within the interval."""
    return cells.pooled(case, Asked("ours", measure), Asked("frozen B", measure)).open


def no_lead() -> Estimate:
    """The difference of home to itself, which is not shown."""
    return estimate([])


def by_federation(cells: Cells) -> pd.DataFrame:
    """Every line in every case and federation, with its difference to home; a seed is the unit of intervals."""
    found: Rows = []
    for case in CASES:
        for measure in case.measures:
            blind, tested = cells.blind(case, measure), cells.tested(case, measure)
            for line in ORDER:
                leads = cells.alone_of(case, line, measure)
                for federation, seeds in cells.by_federation(case, Asked(line, measure)).items():
                    own, lead = estimate(seeds), leads.get(federation, no_lead())
                    row: dict[str, Any] = {
                        "regime": case.regime,
                        "level": case.level,
                        "alpha": case.alpha,
                        "measure": measure,
                        "federation": federation,
                        "line": line,
                        "seeds": own.units,
                        "test items": tested.get(federation),
                        "mean": own.mean,
                        "minus home": lead.mean,
                        "half of its interval": lead.half,
                        "blind": blind.get(federation) if line == "ours" else None,
                    }
                    found.append(row)
    return pd.DataFrame(found)
