"""The table and the figure of docs/leakage.md, from the rows: ``python -m research.leakage.page``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from research.blocks import filled
from research.leakage.__main__ import TABLE, trials
from research.leakage.trial import ATTACKS, Run
from research.rows import Rows, read

PAGE = Path(__file__).resolve().parents[2] / "docs" / "leakage.md"
FIGURE = PAGE.parent / "figures" / "leakage.png"
MODES: dict[tuple[float, str], str] = {
    (0.0, "own"): "plain",
    (0.0, "sum"): "masked",
    (8.0, "own"): "DP, ε = 8",
    (3.0, "own"): "DP, ε = 3",
    (1.0, "own"): "DP, ε = 1",
    (3.0, "sum"): "masked + DP, ε = 3",
}
START = "start"
KNOWN = {START: "the site's start", "guess": "no start", "fitted": "a start fitted to G"}
ANCHORS, RELEASED = "held-out anchors", "released adapter"
_COLOURS = ("#c0504d", "#e0a030", "#9cc3e6", "#1b6ca8", "#0b3050", "#4c9a5b")
_WIDTH = 1.96  # standard errors, of an interval of 95 %

Asked = tuple[str, str, str]  # attack, measure, what the attacker knows


@dataclass(frozen=True)
class Cell:
    """An attack in one mode, over its seeds.

    Attributes:
        score, chance: means over seeds.
        error: the standard error of chance over all of them.
        seeds: how many there are.
        cases: of all seeds.
    """

    score: float
    chance: float
    error: float
    seeds: int
    cases: int

    @property
    def above(self) -> bool:
        """Whether the score is above chance by more than the interval."""
        return self.score - self.chance > _WIDTH * self.error


def cells(rows: Rows) -> dict[Asked, dict[str, Cell]]:
    """The scores by what is asked and mode; who has the released adapter sees the same with masks and without."""
    found: dict[tuple[Asked, str], Rows] = {}
    for row in rows:
        views = ("own", "sum") if row["measure"].startswith(RELEASED) else (row["view"],)
        for mode in filter(None, (MODES.get((row["epsilon"], view)) for view in views)):
            found.setdefault(((row["attack"], row["measure"], row["knows"]), mode), []).append(row)
    table: dict[Asked, dict[str, Cell]] = {}
    for (asked, mode), some in found.items():
        error = sum(row["error"] ** 2 for row in some) ** 0.5 / len(some)
        table.setdefault(asked, {})[mode] = Cell(
            mean(row["score"] for row in some),
            mean(row["chance"] for row in some),
            error,
            len(some),
            int(sum(row["cases"] for row in some)),
        )
    return {asked: table[asked] for asked in sorted(table, key=_place)}


def table(rows: Rows) -> str:
    """Write a line for each question: chance, and each mode's score, bold where it is above chance."""
    modes = [*MODES.values()]
    lines = [f"| attack | the server knows | chance | {' | '.join(modes)} |", "|---" * (len(modes) + 3) + "|"]
    for (attack, measure, knows), found in cells(rows).items():
        numbers = [_number(found.get(mode)) for mode in modes]
        chance = next(iter(found.values())).chance
        lines.append(f"| {attack}, {measure} | {KNOWN.get(knows, knows)} | {chance:.3f} | {' | '.join(numbers)} |")
    return "\n".join(lines) + "\n"


def standing(rows: Rows) -> str:
    """How much of the grid has been run, and by mode which attacks on private samples are above chance.

    In a masked job there are no groups, so nobody knows a start: what would be found with one is counted apart.
    """
    grid = [*trials()]
    there = {Run(row["attack"], row["knows"], row["epsilon"], row["seed"]) for row in rows} & {*grid}
    seeds = ", ".join(str(seed) for seed in sorted({run.seed for run in there}))
    done = f"{len(there)} of {len(grid)} runs have been carried out, of seeds {seeds}"
    lines = [f"{done}; of the rest nothing is known.\n"]
    private = {asked: found for asked, found in cells(rows).items() if asked[0] != ANCHORS}
    for mode in MODES.values():
        tried = {asked: found[mode] for asked, found in private.items() if mode in found}
        known = {asked: cell for asked, cell in tried.items() if asked[2] == START}
        parts = {"": tried}
        if mode.startswith("masked"):
            parts = {"": {k: v for k, v in tried.items() if k not in known}, ", were the start known": known}
        lines += [f"- **{mode}**{when}: {_above(some)}" for when, some in parts.items() if some]
    return "\n".join(lines) + "\n"


def _above(tried: dict[Asked, Cell]) -> str:
    """Say how many are above chance, and which."""
    names = [
        f"{_title(asked)} ({cell.score:.2f}, chance {cell.chance:.2f})"
        for asked, cell in tried.items()
        if cell.above
    ]
    return f"{len(names)} of {len(tried)} above chance{': ' * bool(names)}{'; '.join(names)}."


def draw(rows: Rows, path: Path) -> None:
    """The scores on a scale from chance, 0, to certainty, 1: a mark for each mode, of who knows most."""
    found = {
        (attack, measure): by_mode
        for (attack, measure, knows), by_mode in cells(rows).items()
        if knows == ATTACKS[attack][1][0] and "before" not in measure
    }
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(found) + 1.4))
    for row, (mode, colour) in enumerate(zip(MODES.values(), _COLOURS, strict=True)):
        below = 0.12 * (row - (len(MODES) - 1) / 2)
        places = [
            (place + below, cell) for place, by_mode in enumerate(found.values()) if (cell := by_mode.get(mode))
        ]
        axes.errorbar(
            [(cell.score - cell.chance) / (1 - cell.chance) for _, cell in places],
            [place for place, _ in places],
            xerr=[_WIDTH * cell.error / (1 - cell.chance) for _, cell in places],
            fmt="o",
            markersize=4,
            linewidth=0.8,
            color=colour,
            label=mode,
        )
    axes.axvline(0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks(range(len(found)), [f"{attack}, {measure}" for attack, measure in found], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("0 is chance (bars: its 95 % interval), 1 is certainty")
    axes.legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _title(asked: Asked) -> str:
    attack, measure, knows = asked
    return f"{attack}, {measure}" + ("" if knows == START else f" with {KNOWN[knows]}")


def _number(cell: Cell | None) -> str:
    if cell is None:
        return "–"
    text = f"{cell.score:.3f} ± {_WIDTH * cell.error:.3f}"
    return f"**{text}**" if cell.above else text


def _place(asked: Asked) -> tuple[object, ...]:
    attack, measure, knows = asked
    known = ATTACKS[attack][1]
    return ([*ATTACKS].index(attack), measure, known.index(knows))


def main(rows: Iterable[dict[str, object]] | None = None) -> None:
    """Write both."""
    found: Rows = read(TABLE) if rows is None else [*rows]
    text = PAGE.read_text(encoding="utf-8")
    written = filled(text, "leakage: table", standing(found) + "\n" + table(found))
    PAGE.write_text(written, encoding="utf-8")
    draw(found, FIGURE)


if __name__ == "__main__":
    main()
