"""The table and the figure of docs/attacks.md, from the rows: ``python -m research.attacks.page``."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from statistics import mean

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from research.attacks.__main__ import TABLE, trials
from research.attacks.attacks import LIES
from research.attacks.trial import ABSENT, HONEST, RULES
from research.blocks import filled
from research.rows import Rows, read

PAGE = Path(__file__).resolve().parents[2] / "docs" / "attacks.md"
FIGURE = PAGE.parent / "figures" / "attacks.png"
TOLERATED = {"accuracy": 0.02, "r@1": 0.03}
_MEASURES = ("accuracy", "r@1", "cka")

Cell = tuple[str, int, int, str, str]  # federation, sites, liars, attack, rule


def damage(rows: Rows) -> dict[Cell, dict[str, list[float]]]:
    """What each attack cost by seed: the honest sites without the liars, less with them, under the same rule."""
    key = ("federation", "sites", "liars", "rule", "seed")
    without = {tuple(row[k] for k in key): row for row in rows if row["attack"] == ABSENT}
    found: dict[Cell, dict[str, list[float]]] = {}
    for row in sorted(rows, key=lambda r: r["seed"]):
        base = without.get(tuple(row[k] for k in key))
        if base is not None and row["attack"] != ABSENT:
            cell = (row["federation"], row["sites"], row["liars"], row["attack"], row["rule"])
            for measure in _MEASURES:
                found.setdefault(cell, {m: [] for m in _MEASURES})[measure].append(base[measure] - row[measure])
    return found


def table(rows: Rows) -> str:
    """A line for each attack and rule that was run: the mean loss over seeds, and how many there are."""
    lines = [
        "| sites that lie | attack | rule | accuracy lost | R@1 lost | CKA lost | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    cells = damage(rows)
    for cell in sorted(cells, key=_place):
        name, sites, liars, attack, rule = cell
        title = "none: they are honest" if attack == HONEST else LIES[attack].title
        lost = [mean(cells[cell][measure]) for measure in _MEASURES]
        bold = rule == "default" and (lost[0] > TOLERATED["accuracy"] or lost[1] > TOLERATED["r@1"])
        numbers = " | ".join(f"**{x:+.3f}**" if bold else f"{x:+.3f}" for x in lost)
        seeds = len(cells[cell]["accuracy"])
        lines.append(f"| {liars} of {sites}, {name} | {title} | {rule} | {numbers} | {seeds} |")
    return "\n".join(lines) + "\n"


def standing(rows: Rows) -> str:
    """How much of the grid has been run, what the default costs when all are honest, where it misses the goal."""
    grid, seeds = set(trials()), sorted({row["seed"] for row in rows})
    lines = [
        f"{len(rows)} of {len(grid)} trials have been run, of seeds {', '.join(map(str, seeds))}; of the rest "
    ]
    lines.append("nothing is known.")
    honest = {(r["rule"], r["federation"], r["sites"], r["seed"]): r for r in rows if r["attack"] == HONEST}
    pairs = [
        (r, honest["plain mean", *k[1:]])
        for k, r in honest.items()
        if k[0] == "default" and ("plain mean", *k[1:]) in honest
    ]
    if pairs:
        gains = (mean(ours[m] - plain[m] for ours, plain in pairs) for m in ("accuracy", "r@1"))
        lines.append(
            " Without an attack the default has {:+.3f} of accuracy and {:+.3f} of R@1 over".format(*gains)
        )
        lines.append(f" the plain mean (federations and seeds: {len(pairs)}).")
    tried = [(cell, lost) for cell, lost in damage(rows).items() if cell[4] == "default" and cell[3] != HONEST]
    missed = [cell for cell, lost in tried if any(mean(lost[m]) > most for m, most in TOLERATED.items())]
    lines.append(
        f" Under attack the default misses the goal in {len(missed)} of {len(tried)} cases that were run."
    )
    return "".join(lines) + "\n"


def draw(rows: Rows, path: Path) -> None:
    """Bars of the accuracy that each attack cost, default beside the plain mean, one of four sites."""
    cells = {
        (cell[3], cell[4]): mean(lost["accuracy"])
        for cell, lost in damage(rows).items()
        if cell[:3] == ("synthetic", 4, 1)
    }
    attacks = [name for name in (HONEST, *LIES) if any(key[0] == name for key in cells)]
    figure, axes = plt.subplots(figsize=(8, 0.5 * len(attacks) + 1.2))
    for place, (rule, colour) in enumerate((("default", "#1b6ca8"), ("plain mean", "#c0504d"))):
        heights = [cells.get((attack, rule), float("nan")) for attack in attacks]
        axes.barh([y + 0.35 * place for y in range(len(attacks))], heights, 0.35, label=rule, color=colour)
    axes.axvline(TOLERATED["accuracy"], color="grey", linewidth=0.8, linestyle="--")
    axes.set_yticks([y + 0.175 for y in range(len(attacks))], attacks)
    axes.invert_yaxis()
    axes.set_xlabel("accuracy that the honest sites lose (dashed: the goal)")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)


def _place(cell: Cell) -> tuple[object, ...]:
    name, sites, liars, attack, rule = cell
    return (name != "synthetic", sites, liars, (HONEST, *LIES).index(attack), [*RULES].index(rule))


def main(rows: Iterable[dict[str, object]] | None = None) -> None:
    """Write both."""
    found: Rows = read(TABLE) if rows is None else [*rows]
    text = PAGE.read_text(encoding="utf-8")
    written = filled(text, "attacks: table", standing(found) + "\n" + table(found))
    PAGE.write_text(written, encoding="utf-8")
    draw(found, FIGURE)


if __name__ == "__main__":
    main()
