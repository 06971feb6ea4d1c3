"""Tables and figures of `benchmarks/RESULTS.md` from the rows in `benchmarks/results`.

    python -m benchmarks.evidence.analyse

rewrites every block between `<!-- table: NAME -->` and `<!-- end -->`, and the figures.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from scipy import stats

from benchmarks.evidence.__main__ import RESULTS, read
from benchmarks.evidence.methods import BASELINES, CENTRAL, OURS

PAGE = RESULTS.parent / "RESULTS.md"
FIGURES = RESULTS.parent / "figures"
MEASURES = ("accuracy", "r@1", "map", "zero-shot", "cka", "knn")
_TITLES = {
    "accuracy": "own task, accuracy",
    "r@1": "retrieval R@1, anchor-relative",
    "raw r@1": "R@1, raw cosine",
    "map": "mAP",
    "zero-shot": "zero-shot",
    "cka": "held-out CKA",
    "knn": "held-out k-NN",
    "truth": "CKA to the truth",
    "bytes up": "kB up",
    "bytes down": "kB down",
    "seconds": "seconds",
    "kept by the mean": "norm kept",
}
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def interval(values: pd.Series) -> tuple[float, float]:
    """Mean, and half the width of its 95 % interval over seeds (Student's t); NaN for a single seed."""
    n = len(values)
    half = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / n**0.5 if n > 1 else float("nan")
    return float(values.mean()), float(half)


def cell(values: pd.Series) -> str:
    """Mean ± half of the interval, or a dash."""
    values = values.dropna()
    if values.empty:
        return "–"
    average, half = interval(values)
    return f"{average:.3f} ± {half:.3f}" if half == half else f"{average:.3f}"


def paired(rows: pd.DataFrame, method: str, baseline: str, measure: str) -> tuple[float, float] | None:
    """Mean difference to a baseline over the same seeds, and p of a paired t-test; None for one seed."""
    wide = rows.pivot_table(index="seed", columns="method", values=measure)
    if not {method, baseline} <= set(wide.columns):
        return None
    both = wide[[method, baseline]].dropna()
    if len(both) < 2:
        return None
    difference = both[method] - both[baseline]
    if difference.std() == 0:
        return float(difference.mean()), 1.0
    return float(difference.mean()), float(stats.ttest_rel(both[method], both[baseline]).pvalue)


def best_baseline(rows: pd.DataFrame, measure: str, among: Sequence[str] = BASELINES) -> str | None:
    """The baseline with the highest mean."""
    means = rows[rows["method"].isin(among)].groupby("method")[measure].mean().dropna()
    return None if means.empty else str(means.idxmax())


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def by_method(rows: pd.DataFrame, measures: Sequence[str], order: Sequence[str]) -> str:
    """One line a method; ▲ and ▼: one of ours differs from the best baseline (paired t-test, p < 0.05)."""
    lines = []
    for method in [m for m in order if m in set(rows["method"])]:
        own, cells = rows[rows["method"] == method], []
        for measure in measures:
            text = cell(own[measure]) if measure in own else "–"
            against = best_baseline(rows, measure) if measure in own and method not in BASELINES else None
            test = paired(rows, method, against, measure) if against else None
            mark = "" if test is None or test[1] >= 0.05 else " ▲" if test[0] > 0 else " ▼"
            cells.append(text + mark)
        lines.append([method, *cells, str(len(own))])
    return markdown(["method", *(_TITLES.get(m, m) for m in measures), "seeds"], lines)


def methods(measures: Sequence[str] = MEASURES) -> str:
    """Every method on every federation."""
    table, parts = read(RESULTS / "methods.csv"), []
    for federation, rows in table.groupby("federation", sort=False):
        parts.append(f"**{federation}**\n\n" + by_method(rows, measures, (CENTRAL, *BASELINES, *OURS)))
    return "\n".join(parts)


def costs() -> str:
    """Bytes and time."""
    table = read(RESULTS / "methods.csv")
    table = table.assign(**{name: table[name] / 1000 for name in ("bytes up", "bytes down")})
    rows = table[table["federation"] == "synthetic"]
    return by_method(rows, ("bytes up", "bytes down", "kept by the mean", "seconds"), (*BASELINES, *OURS))


def ablations() -> str:
    """Every setting, beside the default and training alone."""
    rows = pd.concat([read(RESULTS / f"{name}.csv") for name in ("methods", "ablations")], ignore_index=True)
    parts = []
    for federation, found in rows.groupby("federation", sort=False):
        names = ["local", *OURS, *(m for m in found["method"].unique() if ":" in m)]
        if len(names) > 1 + len(OURS):
            parts.append(f"**{federation}**\n\n" + by_method(found, (*MEASURES, "truth"), names))
    return "\n".join(parts)


def broken() -> str:
    """The methods where an assumption does not hold."""
    parts = []
    for (federation, what), rows in read(RESULTS / "controls.csv").groupby(["federation", "broken"], sort=False):
        measures = ("accuracy", "r@1", "zero-shot", "cka", "share of the first site")
        parts.append(f"**{federation}, {what}**\n\n" + by_method(rows, measures, rows["method"].unique()))
    return "\n".join(parts)


def anchors() -> str:
    """Measures by number of anchors."""
    lines = []
    for (what, method), rows in read(RESULTS / "anchors.csv").groupby(["broken", "method"], sort=False):
        lines.append([f"{what}, {method}", *(cell(rows[m]) for m in ("r@1", "zero-shot", "cka", "truth"))])
    return markdown(["anchors and method", "R@1", "zero-shot", "held-out CKA", "CKA to the truth"], lines)


def partitions() -> str:
    """Measures by number of sites and skew."""
    lines = []
    keys = ["federation", "sites", "alpha", "method"]
    for key, rows in read(RESULTS / "partitions.csv").groupby(keys, sort=False):
        lines.append([", ".join(map(str, key)), *(cell(rows[m]) for m in ("accuracy", "r@1", "zero-shot"))])
    return markdown(["federation, sites, α, method", "accuracy", "R@1", "zero-shot"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "methods": methods,
    "costs": costs,
    "ablations": ablations,
    "controls": broken,
    "anchors": anchors,
    "partitions": partitions,
    "tuning": lambda: "\n".join(
        f"**{federation}, validation**\n\n" + by_method(rows, (*MEASURES, "truth"), rows["method"].unique())
        for federation, rows in read(RESULTS / "tuning.csv").groupby("federation", sort=False)
    ),
}


def fill(page: str) -> str:
    """A page with its tables as the rows say.

    Raises:
        KeyError: a block of an unknown name.
    """
    return _BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", page)


def draw(path: Path) -> None:
    """Retrieval and the own task of every method, mean and interval, by federation."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    table = read(RESULTS / "methods.csv")
    federations = list(dict.fromkeys(table["federation"]))
    order = [m for m in (CENTRAL, *BASELINES, *OURS) if m in set(table["method"])]
    figure, axes = plt.subplots(
        len(federations), 3, figsize=(12, 0.6 + 2.8 * len(federations)), squeeze=False, sharey=True
    )
    for line, federation in zip(axes, federations, strict=True):
        rows = table[table["federation"] == federation]
        for axis, measure in zip(line, ("accuracy", "r@1", "zero-shot"), strict=True):
            for place, method in enumerate(reversed(order)):
                values = rows[rows["method"] == method][measure].dropna()
                if values.empty:
                    continue
                average, half = interval(values)
                colour = "tab:red" if method in OURS else "tab:grey" if method == CENTRAL else "tab:blue"
                axis.errorbar(average, place, xerr=half if half == half else None, fmt="o", color=colour, ms=4)
            axis.set_title(f"{federation}: {_TITLES[measure]}", fontsize=9)
            axis.set_yticks(range(len(order)), list(reversed(order)), fontsize=7)
            axis.grid(axis="x", alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    PAGE.write_text(fill(PAGE.read_text()))
    if (RESULTS / "methods.csv").exists():
        draw(FIGURES / "methods.png")
