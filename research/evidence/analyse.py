"""Tables and figures of `research/RESULTS.md` from the rows in `research/results`.

    python -m research.evidence.analyse [FOLDER]

copies the rows of a folder there, and rewrites every block between `<!-- table: NAME -->` and `<!-- end -->`, and
the figures.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from research.evidence.figures import TITLES, draw_all, rate_of
from research.evidence.methods import BASELINES, CENTRAL, OURS
from research.evidence.seeds import differences, groups, interval, paired, pooled, values
from research.rows import RESULTS, Rows, read

PAGE = RESULTS.parent / "RESULTS.md"
FIGURES = RESULTS.parent / "figures"
MEASURES = ("accuracy", "r@1", "raw r@1", "map", "zero-shot", "cka", "knn")
_BYTES = ("bytes up", "bytes down")
_BLOCK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def cell(rows: Rows, measure: str) -> str:
    """The mean of a measure ± half of its interval, or a dash; bytes in kB."""
    found = [value / 1000 if measure in _BYTES else value for value in values(rows, measure)]
    if not found:
        return "–"
    average, half = interval(found)
    return f"{average:.3f} ± {half:.3f}" if half >= 5e-4 else f"{average:.3f}"  # NaN of a single seed


def best_baseline(rows: Rows, measure: str) -> str | None:
    """The baseline with the highest mean of a measure."""
    means = {
        method: np.mean(values(own, measure))
        for (method,), own in groups(rows, "method").items()
        if method in BASELINES and values(own, measure)
    }
    return max(means, key=lambda method: means[method], default=None)


def markdown(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    rule = ["---", *("---:" for _ in header[1:])]
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, rule, *lines))


def by_method(rows: Rows, measures: Sequence[str], order: Sequence[str] = ()) -> str:
    """A table with a line a method; ▲, ▼: one of ours differs from the best baseline (paired t-test, p < 0.05)."""
    found = {method: own for (method,), own in groups(rows, "method").items()}
    lines = []
    for method in [m for m in order or found if m in found]:
        cells = []
        for measure in measures:
            against = None if method in BASELINES else best_baseline(rows, measure)
            test = paired(rows, method, against, measure) if against else None
            mark = "" if test is None or test.p >= 0.05 else " ▲" if test.mean > 0 else " ▼"
            cells.append(cell(found[method], measure) + mark)
        lines.append([method, *cells, str(len(found[method]))])
    return markdown(["method", *(TITLES.get(m, m) for m in measures), "seeds"], lines)


def by_federation(rows: Rows, table: Callable[[Rows], str]) -> str:
    """A table for each federation."""
    return "\n".join(f"**{name}**\n\n{table(own)}" for (name,), own in groups(rows, "federation").items())


def costs() -> str:
    """A table of bytes and time by method, the same in all else; the time is that of the fastest seed."""
    rows = [row for row in read(RESULTS / "methods.csv") if row["federation"] == "synthetic"]
    found = {method: own for (method,), own in groups(rows, "method").items()}
    lines = []
    for method in [m for m in (*BASELINES, *OURS) if m in found]:
        own = found[method]
        lines.append(
            [
                method,
                *(cell(own, name) for name in _BYTES),
                cell(own, "kept by the mean"),
                f"{min(values(own, 'seconds')):.1f}",
            ]
        )
    return markdown(["method", "kB up", "kB down", TITLES["kept by the mean"], "seconds"], lines)


def difference(rows: Rows, method: str, reference: str, measure: str) -> str:
    """The mean difference of two methods on the same seeds, ± half of its 95 % interval, or a dash.

    A seed is a world of its own here, so methods differ less between seeds than worlds do.
    """
    found = differences(rows, method, reference, measure)
    if not found:
        return "–"
    average, half = interval(found)
    return f"{average:+.3f} ± {half:.3f}" if half == half else f"{average:+.3f}"


def by_difference(rows: Rows, measures: Sequence[str], reference: str) -> str:
    """A table with a line a method: its :func:`difference` to one of them."""
    lines = [
        [method, *(difference(rows, method, reference, measure) for measure in measures), str(len(own))]
        for (method,), own in groups(rows, "method").items()
        if method != reference
    ]
    return markdown([f"against {reference}", *(TITLES.get(m, m) for m in measures), "seeds"], lines)


def by_case(study: str, keys: Sequence[str], measures: Sequence[str], plain: Sequence[str] = ()) -> str:
    """A table by some columns: the measures of training alone, and the differences of the other methods to it.

    Args:
        plain: measures that are no differences.
    """
    lines = []
    for key, rows in groups(read(RESULTS / f"{study}.csv"), *keys).items():
        for (method,), own in groups(rows, "method").items():
            cells = [
                cell(own, m) if method == "local" or m in plain else difference(rows, method, "local", m)
                for m in (*measures, *plain)
            ]
            lines.append([*map(_plain, key), method, *cells, str(len(own))])
    lines.sort(key=lambda line: (line[: len(keys)], line[len(keys)] != "local"))
    return markdown([*keys, "method", *(TITLES.get(m, m) for m in (*measures, *plain)), "seeds"], lines)


def _plain(value: object) -> str:
    return "∞" if value == float("inf") else str(value)


def ablations() -> str:
    """A table a federation: every setting against the default, and training alone."""
    rows = [row for row in _with_ablations() if row["method"] in (*OURS, "local") or ":" in row["method"]]
    changed = {row["federation"] for row in rows if ":" in row["method"]}
    shown = [row for row in rows if row["federation"] in changed]
    return by_federation(shown, lambda own: by_difference(own, (*MEASURES, "truth"), "geodora"))


def rates() -> str:
    """A table of methods at several learning rates against training alone at its own, on the made federation."""
    made = [row for row in _with_ablations() if row["federation"] == "synthetic"]
    return by_difference([row for row in made if rate_of(row["method"])], MEASURES, "local")


def _with_ablations() -> Rows:
    return read(RESULTS / "methods.csv") + read(RESULTS / "ablations.csv")


def grouped(study: str, keys: Sequence[str], measures: Sequence[str]) -> str:
    """A table with a line for every combination of some columns, and the number of its seeds."""
    lines = [
        [*map(_plain, key), *(cell(rows, measure) for measure in measures), str(len(rows))]
        for key, rows in groups(read(RESULTS / f"{study}.csv"), *keys).items()
    ]
    return markdown([*keys, *(TITLES.get(m, m) for m in measures), "seeds"], lines)


TABLES: dict[str, Callable[[], str]] = {
    "methods": lambda: by_federation(
        read(RESULTS / "methods.csv"), lambda own: by_method(own, MEASURES, (CENTRAL, *BASELINES, *OURS))
    ),
    "leads": lambda: by_federation(
        read(RESULTS / "methods.csv"), lambda own: by_difference(own, MEASURES, "local")
    ),
    "pooled": lambda: by_difference(pooled(_with_ablations()), MEASURES, "local"),
    "costs": costs,
    "ablations": ablations,
    "rates": rates,
    "controls": lambda: by_case(
        "controls", ("federation", "broken"), ("accuracy", "r@1", "cka"), ("share of the victim",)
    ),
    "anchors": lambda: by_case("anchors", ("broken",), ("accuracy", "r@1", "zero-shot", "cka")),
    "bridges": lambda: grouped("bridges", ("broken", "pairs"), ("bridged r@1", "other r@1", "cka")),
    "partitions": lambda: by_case("partitions", ("sites", "alpha"), ("accuracy", "r@1", "zero-shot", "cka")),
    "fedumm": lambda: grouped(
        "fedumm",
        ("clients", "alpha", "method", "dora", "rank", "rounds"),
        ("vqa_accuracy", "geneval", "understanding_loss", "generation_loss", "bytes up"),
    ),
    "tuning": lambda: by_federation(
        read(RESULTS / "tuning.csv"), lambda own: by_difference(own, MEASURES, "geodora")
    ),
}


def fill(page: str) -> str:
    """The text of a page with every table filled from the rows.

    Raises:
        KeyError: a block of an unknown name.
    """
    return _BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block[2]]()}\n{block[3]}", page)


if __name__ == "__main__":
    for fresh in Path(sys.argv[1]).glob("*.csv") if len(sys.argv) > 1 else ():
        shutil.copy(fresh, RESULTS)
    PAGE.write_text(fill(PAGE.read_text()))
    draw_all(FIGURES)
