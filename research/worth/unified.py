"""FedUMM in a few numbers, from the rows of its study; a seed is the unit of intervals."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import mean

from research.fedumm.studies import CLIENTS, MOMENTUM, MORE, MOST, RANK, ROUNDS, SKEWS, STEPS
from research.fedumm.trial import FULL
from research.rows import Rows
from research.worth.statistics import Estimate, estimate

VQA, NEW, KNOWN = "vqa_accuracy", "geneval new", "geneval known"
INFINITE = float("inf")
PLAIN: Mapping[str, object] = {
    "clients": 4,
    "alpha": 0.5,
    "method": "fedit",
    "rank": RANK,
    "steps": STEPS,
    "rounds": ROUNDS,
    "momentum": 0.0,
    "dora": False,
    "without": "nothing",
}


class Unified:
    """The rows of the study of FedUMM, asked for values and differences on the same seeds."""

    VARIANTS = (
        ("without rehearsal", {"without": "rehearsal"}),
        ("without the base's own prediction in it", {"without": "drift"}),
        ("with rates that do not fall", {"without": "falling"}),
        ("with weight 1 for pictures", {"without": "weight"}),
        ("each trains alone", {"method": "local"}),
        ("with a proximal term (FedProx)", {"method": "fedprox"}),
        ("with the exact residual (FedEx)", {"method": "fedex"}),
        ("with momentum at the server", {"momentum": MOMENTUM}),
        ("in 4 rounds", {"rounds": 4}),
        ("in 40 rounds", {"rounds": 40}),
        ("A stays frozen (FFA, GeoLoRA)", {"method": ("ffa", "geo")}),  # they differ only where anchors train
        ("GeoDoRA", {"method": "geo", "dora": True}),
        ("B stays at home (FedSA)", {"method": "fedsa"}),
        ("of rank 4 instead of 16", {"rank": 4}),
        ("of rank 64", {"rank": 64}),
        ("full fine-tuning", {"method": FULL}),
    )

    def __init__(self, rows: Rows) -> None:
        self.rows = rows

    def seeds(self, measure: str, **fixed: object) -> dict[int, float]:
        """A measure by seed, on average over its rows; where nothing else is asked, of :data:`PLAIN`."""
        some = {k: v if isinstance(v, tuple) else (v,) for k, v in {**PLAIN, **fixed}.items()}
        rows = [row for row in self.rows if all(row[name] in values for name, values in some.items())]
        return {
            seed: mean(row[measure] for row in rows if row["seed"] == seed and measure in row)
            for seed in sorted({row["seed"] for row in rows if measure in row})
        }

    def level(self, measure: str, **fixed: object) -> Estimate:
        """The mean of a measure over seeds."""
        return estimate([*self.seeds(measure, **fixed).values()])

    def minus(self, measure: str, one: Mapping[str, object], other: Mapping[str, object]) -> Estimate:
        """The difference of one setting to another, over the seeds that both have."""
        first, second = self.seeds(measure, **one), self.seeds(measure, **other)
        return estimate([first[seed] - second[seed] for seed in first if seed in second])

    # what the page says

    @property
    def central(self) -> dict[str, object]:
        return {"clients": 1, "alpha": INFINITE}

    @property
    def base(self) -> dict[str, object]:
        return {**self.central, "steps": 0, "rounds": 1}

    @property
    def more(self) -> dict[str, object]:
        """The larger number of steps."""
        return {"steps": MORE * STEPS}

    @property
    def central_more(self) -> dict[str, object]:
        """Central training with the larger number of steps."""
        return {**self.central, **self.more}

    @property
    def most(self) -> dict[str, object]:
        """16 sites, each with the steps that central training has at the smaller number."""
        return {"clients": 16, "steps": MOST * STEPS}

    def divided(self, clients: int) -> Estimate:
        """Answers of so many clients, over all skews, against central training at equal compute."""
        return self.minus(VQA, {"clients": clients, "alpha": SKEWS}, self.central)

    def gap(self, clients: int, alpha: float) -> Estimate:
        """Answers of so many clients against central training, both with the larger number of steps."""
        return self.minus(VQA, {"clients": clients, "alpha": alpha, **self.more}, self.central_more)

    def gained(self, measure: str, **fixed: object) -> Estimate:
        """A setting against the untrained base."""
        return self.minus(measure, fixed, self.base)

    def skew(self) -> Estimate:
        """Answers at the strongest skew against none, over all numbers of clients."""
        return self.minus(VQA, {"clients": CLIENTS, "alpha": SKEWS[0]}, {"clients": CLIENTS, "alpha": INFINITE})

    def share_of_bytes(self, **fixed: object) -> str:
        """The bytes that a setting sends up, in percent of those of the plain one."""
        own, plain = self.level("bytes up", **fixed), self.level("bytes up")
        return f"{100 * own.mean / plain.mean:.0f} %" if own.units and plain.units else "–"
