"""The tables of docs/privacy.md, from the rows: ``python -m research.privacy.page``."""

from __future__ import annotations

from pathlib import Path
from statistics import mean, stdev

from research.blocks import filled
from research.privacy import audit
from research.privacy.__main__ import TABLE, trials
from research.privacy.trial import LINES
from research.rows import Rows, read

PAGE = Path(__file__).resolve().parents[2] / "docs" / "privacy.md"


def prices(rows: Rows) -> str:
    """A line for each federation and ε: the mean test accuracy of its sites, over seeds, and the noise."""
    lines = [
        "| federation | line | accuracy, mean over sites | worst site | own anchors | noise / clip | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(trial.federation for trial in trials()):
        for line in LINES:
            found = [row for row in rows if (row["federation"], row["line"]) == (name, line)]
            if not found:
                continue
            accuracy = [row["accuracy"] for row in found]
            spread = f" ± {stdev(accuracy):.3f}" if len(accuracy) > 1 else ""
            worst = mean(min(_of(row, " accuracy")) for row in found)
            noises = [noise for row in found for noise in _of(row, " noise")]
            noise = f"{min(noises):.2f} … {max(noises):.2f}" if noises else "–"
            floor = mean(row["own anchors"] for row in found)
            cells = (name, line, f"{mean(accuracy):.3f}{spread}", f"{worst:.3f}", f"{floor:.3f}", noise)
            lines.append(f"| {' | '.join(cells)} | {len(found)} |")
    missing = len([*trials()]) - len(rows)
    rest = f"\n{missing} of {missing + len(rows)} trials have not been run: of them nothing is known.\n"
    return "\n".join(lines) + "\n" + (rest if missing else "")


def audits(rows: Rows) -> str:
    """A line for each promise, kept and broken: guesses that were right, and the bound that they prove."""
    lines = ["| ε promised | noise | right guesses | lower bound on ε, by seed |", "|---|---|---|---|"]
    cells: dict[tuple[float, int], Rows] = {}
    for row in sorted(rows, key=lambda row: (row["epsilon"], -row["noise"], row["seed"])):
        cells.setdefault((row["epsilon"], row["noise"]), []).append(row)
    for (epsilon, noise), found in cells.items():
        right = ", ".join(f"{row['right']:.0f} of {row['guesses']:.0f}" for row in found)
        bounds = ", ".join(f"{row['lower bound']:.2f}" for row in found)
        lines.append(f"| {epsilon:g} | {'as calibrated' if noise else 'switched off'} | {right} | {bounds} |")
    return "\n".join(lines) + "\n"


def _of(row: dict[str, float], ending: str) -> list[float]:
    """The values of a row by site."""
    return [value for name, value in row.items() if name.endswith(ending)]


def main() -> None:
    """Write both tables."""
    text = filled(PAGE.read_text(encoding="utf-8"), "privacy: table", prices(read(TABLE)))
    PAGE.write_text(filled(text, "privacy: audit", audits(read(audit.TABLE))), encoding="utf-8")


if __name__ == "__main__":
    main()
