"""The tables and the figure of docs/attacks.md, from the rows: ``python -m research.attacks.page``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
BACKDOOR = "backdoor"  # the attack, and the column with the share of samples that its trigger turns
_MEASURES = {"accuracy": "Accuracy", "r@1": "R@1", "cka": "CKA"}
_SETTINGS = (("synthetic", 4, 1), ("synthetic", 8, 2), ("carnivora", 4, 1))
_CLIPPED = 10.0  # hundredths, where the colours of the figure end

Cell = tuple[str, int, int, str, str]  # federation, sites, liars, attack, rule


def damage(rows: Rows) -> dict[Cell, dict[str, list[float]]]:
    """What each attack cost by seed: the honest sites without the liars, less with them, under the same rule.

    What a trigger turns is no loss but a gain of the liars': the share with them, less without.
    """
    key = ("federation", "sites", "liars", "rule", "seed")
    without = {tuple(row[k] for k in key): row for row in rows if row["attack"] == ABSENT}
    found: dict[Cell, dict[str, list[float]]] = {}
    for row in sorted(rows, key=lambda r: r["seed"]):
        base = without.get(tuple(row[k] for k in key))
        if base is not None and row["attack"] != ABSENT:
            cell = (row["federation"], row["sites"], row["liars"], row["attack"], row["rule"])
            lost = found.setdefault(cell, {measure: [] for measure in (*_MEASURES, BACKDOOR)})
            for measure in _MEASURES:
                lost[measure].append(base[measure] - row[measure])
            lost[BACKDOOR].append(row[BACKDOOR] - base[BACKDOOR])
    return found


def tables(rows: Rows) -> str:
    """For each federation and measure a table of attacks by rules: the mean over seeds, in hundredths."""
    found, written = damage(rows), []
    for setting in _SETTINGS:
        cells = {cell[3:]: lost for cell, lost in found.items() if cell[:3] == setting}
        if not cells:
            continue
        name, sites, liars = setting
        seeds = sorted({len(lost["accuracy"]) for lost in cells.values()})
        several = " to ".join(map(str, dict.fromkeys((seeds[0], seeds[-1]))))
        written.append(f"### {name}, {liars} of {sites}\n\nSeeds: {several}.\n")
        written += [_matrix(title, measure, cells) for measure, title in _MEASURES.items()]
    return "\n".join(written)


def _matrix(title: str, measure: str, cells: Mapping[tuple[str, str], Mapping[str, list[float]]]) -> str:
    rules = [rule for rule in RULES if any(key[1] == rule for key in cells)]
    attacks = [attack for attack in (HONEST, *LIES) if any(key[0] == attack for key in cells)]
    lines = [f"| {title} lost | {' | '.join(rules)} |", f"|---|{'---|' * len(rules)}"]
    for attack in attacks:
        lost = [cells.get((attack, rule), {}).get(measure) for rule in rules]
        told = [_told(mean(values), TOLERATED.get(measure)) if values else "" for values in lost]
        lines.append(f"| {_title(attack)} | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def _title(attack: str) -> str:
    return "none: they are honest" if attack == HONEST else LIES[attack].title


def _told(lost: float, most: float | None) -> str:
    """A loss in hundredths, bold where it is more than the goal allows."""
    text = f"{100 * lost:+.1f}"
    return f"**{text}**" if most is not None and lost > most else text


def standing(rows: Rows) -> str:
    """How much of the grid has been run, what the default costs when all are honest, where rules miss the goal."""
    there, grid, seeds = len(rows), len(set(trials())), sorted({row["seed"] for row in rows})
    missing = "" if there == grid else "; of the rest nothing is known"
    said = [f"{there} of {grid} trials have been run, of seeds {', '.join(map(str, seeds))}{missing}."]
    honest = {(r["rule"], r["federation"], r["sites"], r["seed"]): r for r in rows if r["attack"] == HONEST}
    pairs = [
        (r, honest["plain mean", *k[1:]])
        for k, r in honest.items()
        if k[0] == "default" and ("plain mean", *k[1:]) in honest
    ]
    if pairs:
        accuracy, found = (mean(ours[m] - plain[m] for ours, plain in pairs) for m in ("accuracy", "r@1"))
        said.append(
            f"Without an attack the default has {100 * accuracy:+.1f} of accuracy and {100 * found:+.1f} of R@1"
            f" over the plain mean (federations and seeds: {len(pairs)})."
        )
    tried: dict[str, list[bool]] = {}
    turned: dict[str, list[float]] = {}
    losses = damage(rows)
    for (*_, attack, rule), lost in sorted(losses.items(), key=lambda item: [*RULES].index(item[0][4])):
        if attack != HONEST:
            tried.setdefault(rule, []).append(any(mean(lost[m]) > most for m, most in TOLERATED.items()))
        if attack == BACKDOOR:
            turned.setdefault(rule, []).extend(lost[BACKDOOR])
    missed = (f"{rule} {sum(cases)} of {len(cases)}" for rule, cases in tried.items())
    said.append(f"Cases beyond the goal, by rule: {', '.join(missed)}.")
    said += _misses(losses)
    if turned:
        most = (f"{rule} {100 * mean(shares):+.1f}" for rule, shares in turned.items())
        said.append(f"The trigger of the backdoor turns more samples of honest sites, by rule: {', '.join(most)}.")
    return "".join(f"- {line}\n" for line in said)


def _misses(found: Mapping[Cell, Mapping[str, list[float]]]) -> list[str]:
    """A line for each loss under the default beyond the goal, beside what an honest site in that place costs."""
    lines = []
    for (name, sites, liars, attack, rule), lost in sorted(found.items()):
        if rule != "default" or attack == HONEST:
            continue
        honest = found.get((name, sites, liars, HONEST, rule), {})
        for measure, most in TOLERATED.items():
            if mean(lost[measure]) > most:
                lines.append(
                    f"Under the default: {name}, {liars} of {sites}, {_title(attack)}, {_MEASURES[measure]}"
                    f" {_spread(lost[measure])}; an honest site in that place {_spread(honest.get(measure, []))}."
                )
    return lines


def _spread(values: Sequence[float]) -> str:
    """The mean in hundredths, with the least and the largest of several seeds."""
    if not values:
        return "not measured"
    return f"{100 * mean(values):+.1f} (from {100 * min(values):+.1f} to {100 * max(values):+.1f})"


def draw(rows: Rows, path: Path) -> None:
    """A map of attacks by rules for each federation: the accuracy that the honest sites lose, in hundredths."""
    found = damage(rows)
    attacks, rules = [HONEST, *LIES], [*RULES]
    figure, panels = plt.subplots(1, len(_SETTINGS), figsize=(13, 5.2), layout="constrained", sharey=True)
    for axes, setting in zip(panels, _SETTINGS, strict=True):
        values = [[_lost(found, (*setting, attack, rule)) for rule in rules] for attack in attacks]
        axes.imshow(values, cmap="RdBu_r", vmin=-_CLIPPED, vmax=_CLIPPED, aspect="auto")
        for y, line in enumerate(values):
            for x, value in enumerate(line):
                if value == value:  # an empty cell was not run
                    colour = "white" if abs(value) > 0.6 * _CLIPPED else "black"
                    axes.text(x, y, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
        name, sites, liars = setting
        axes.set_title(f"{name}, {liars} of {sites}", fontsize=10)
        axes.set_xticks(range(len(rules)), rules, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(attacks)), attacks, fontsize=8)
    figure.suptitle("accuracy that the honest sites lose, in points", fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, metadata={"Software": None})
    plt.close(figure)


def _lost(found: Mapping[Cell, Mapping[str, list[float]]], cell: Cell) -> float:
    """The mean loss of accuracy in hundredths, NaN where nothing was run."""
    return 100 * mean(found[cell]["accuracy"]) if cell in found else float("nan")


def main(rows: Iterable[dict[str, object]] | None = None) -> None:
    """Write both."""
    found: Rows = read(TABLE) if rows is None else [*rows]
    text = PAGE.read_text(encoding="utf-8")
    text = filled(text, "attacks: standing", standing(found))
    PAGE.write_text(filled(text, "attacks: tables", tables(found)), encoding="utf-8")
    draw(found, FIGURE)


if __name__ == "__main__":
    main()
