"""FedUMM in a few numbers, from the rows of its study; a seed is the unit of intervals."""

from __future__ import annotations

from statistics import mean

from research.rows import Rows
from research.worth.statistics import Estimate, estimate

VQA, GENEVAL = "vqa_accuracy", "geneval"
INFINITE = float("inf")
SKEWS = (0.1, 0.5, 1.0, INFINITE)
CLIENTS = (2, 4, 8, 16)


class Unified:
    """The rows of the study of FedUMM, asked for values and differences on the same seeds."""

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def seeds(self, measure: str, **fixed: object) -> dict[int, float]:
        """A measure by seed, on average over its rows; of four sites, α = 0.5, LoRA, r = 16, 10 rounds."""
        wanted = {"clients": 4, "alpha": 0.5, "method": "fedit", "rank": 16, "rounds": 10, **fixed}
        some = {name: value if isinstance(value, tuple) else (value,) for name, value in wanted.items()}
        rows = [row for row in self.rows if all(row[name] in values for name, values in some.items())]
        return {
            seed: mean(row[measure] for row in rows if row["seed"] == seed and measure in row)
            for seed in sorted({row["seed"] for row in rows if measure in row})
        }

    def level(self, measure: str, **fixed: object) -> Estimate:
        """The mean of a measure over seeds."""
        return estimate([*self.seeds(measure, **fixed).values()])

    def minus(self, measure: str, one: dict[str, object], other: dict[str, object]) -> Estimate:
        """The difference of one setting to another, over the seeds that both have."""
        first, second = self.seeds(measure, **one), self.seeds(measure, **other)
        return estimate([first[seed] - second[seed] for seed in first if seed in second])

    # what the page says

    @property
    def central(self) -> dict[str, object]:
        return {"clients": 1, "alpha": INFINITE}

    @property
    def base(self) -> dict[str, object]:
        return {**self.central, "rounds": 0}

    def divided(self, clients: int) -> Estimate:
        """Answers of so many clients, over all skews, against central training at equal compute."""
        return self.minus(VQA, {"clients": clients, "alpha": SKEWS}, self.central)

    def together(self) -> Estimate:
        """Answers of four sites together against four that train alone, over all skews."""
        return self.minus(VQA, {"alpha": SKEWS}, {"alpha": SKEWS, "method": "local"})

    def skew(self) -> Estimate:
        """Answers at the strongest skew against none, over all numbers of clients."""
        return self.minus(VQA, {"clients": CLIENTS, "alpha": SKEWS[0]}, {"clients": CLIENTS, "alpha": INFINITE})

    def share_of_bytes(self, **fixed: object) -> str:
        """The bytes that a setting sends up, in percent of those of the plain one."""
        own, plain = self.level("bytes up", **fixed), self.level("bytes up")
        return f"{100 * own.mean / plain.mean:.0f} %" if own.units and plain.units else "–"
