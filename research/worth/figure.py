"""The figure of the page: together and kept against home, a panel a regime, federations as small marks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedgram.files import write_atomically
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from research.worth.cells import CASES, KEPT, REGIMES, Case, Cells
from research.worth.statistics import Estimate
from research.worth.studies import FEDERATIONS
from research.worth.tables import MEASURES

_LINES: Mapping[str, tuple[str, str, float]] = {  # by line: its words, colour and place beside a tick
    "ours": ("together", "tab:blue", -0.12),
    KEPT: ("kept", "tab:orange", 0.12),
}
_MARKS: Mapping[str, str] = dict(zip(FEDERATIONS, "osD^v", strict=True))
_ROOM = 1.0  # points of the axis at least, and twentieths of it beyond what is shown


def draw(cells: Cells, path: Path) -> None:
    """Draw a PNG: differences to home in points, with 95 % intervals over federations."""
    panels = [(r, [(c, m) for m in MEASURES for c in CASES if c.regime == r and m in c.measures]) for r in REGIMES]
    widths = [len(asked) for _, asked in panels]
    figure = Figure(figsize=(13, 4.6), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, width_ratios=widths)
    limits = _limits(cells, [one for _, asked in panels for one in asked])
    for axis, (regime, asked) in zip(axes, panels, strict=True):
        _panel(axis, cells, asked)
        axis.set_title(regime, fontsize=11)
        axis.set_ylim(*limits)
    axes[0].set_ylabel("points above home")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=8, fontsize=9, frameon=False)
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110, metadata={"Software": ""}))


def _panel(axis: Any, cells: Cells, asked: Sequence[tuple[Case, str]]) -> None:
    axis.axhline(0, color="black", linewidth=1.2)
    axis.grid(axis="y", alpha=0.3)
    for place, (case, measure) in enumerate(asked):
        for line, (_, colour, aside) in _LINES.items():
            for federation, own in cells.alone_of(case, line, measure).items():
                shift = aside * (1.5 + 0.25 * FEDERATIONS.index(federation))
                axis.plot(
                    place + shift, 100 * own.mean, _MARKS[federation], color=colour, markersize=4, alpha=0.45
                )
            _bar(axis, place + aside, cells.lead(case, line, measure), colour)
    names = [_tick(case, measure) for case, measure in asked]
    axis.set_xticks(range(len(names)), names, fontsize=8)
    axis.set_xlim(-0.5, len(names) - 0.5)


def _bar(axis: Any, place: float, found: Estimate, colour: str) -> None:
    if found.units:
        half = 100 * found.half if found.units > 1 else None
        axis.errorbar(
            place,
            100 * found.mean,
            yerr=half,
            fmt="_",
            markersize=13,
            markeredgewidth=2.5,
            color=colour,
            capsize=3,
        )


def _tick(case: Case, measure: str) -> str:
    words = case.title.replace(" at ", "\n")
    return (
        f"{words}\n{MEASURES[measure]}".strip()
        .replace("its fine class", "fine\nclass")
        .replace(" task", "\ntask")
        .replace("thing, ridge map", "thing,\nridge")
    )


def _limits(cells: Cells, asked: Sequence[tuple[Case, str]]) -> tuple[float, float]:
    """The ends of the axis, in points: all federations are seen, and intervals of three federations or more."""
    found = [-_ROOM, _ROOM]
    for case, measure in asked:
        for line in _LINES:
            found += [100 * own.mean for own in cells.alone_of(case, line, measure).values()]
            lead = cells.lead(case, line, measure)
            found += [100 * (lead.mean + sign * lead.half) for sign in (-1, 1)] if lead.units > 2 else []
    room = _ROOM / 20 * (max(found) - min(found))
    return min(found) - room, max(found) + room


def _legend() -> list[Line2D]:
    shown = [Line2D([], [], color=colour, linewidth=3, label=words) for words, colour, _ in _LINES.values()]
    marks = [Line2D([], [], color="grey", marker=m, linestyle="", label=name) for name, m in _MARKS.items()]
    return [*shown, *marks]
