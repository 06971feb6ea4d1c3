"""The figures of `research/RESULTS.md`, from the rows in `research/results`; bars are 95 % intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from research.evidence.methods import ABLATIONS, BASELINES, CENTRAL, OURS, RATE
from research.evidence.seeds import differences, groups, interval, pooled, values
from research.evidence.studies import CREDIT
from research.rows import RESULTS, Rows, read

mpl.use("Agg")
import matplotlib.pyplot as plt

TITLES = {
    "accuracy": "own task, accuracy",
    "r@1": "retrieval R@1, anchor-relative",
    "raw r@1": "R@1, raw cosine",
    "bridged r@1": "R@1, radar and lidar",
    "other r@1": "R@1, all other pairs",
    "map": "mAP",
    "zero-shot": "zero-shot",
    "cka": "held-out CKA",
    "knn": "held-out k-NN",
    "truth": "CKA to the truth",
    "bytes up": "kB up",
    "bytes down": "kB down",
    "seconds": "seconds",
    "kept by the mean": "norm kept",
    "share of the victim": "share of the spoilt site",
    "vqa_accuracy": "VQA soft accuracy",
    "geneval": "GenEval",
}
MEASURED = ("accuracy", "r@1", "zero-shot")


def methods(rows: Rows) -> Any:
    """A figure of retrieval, zero-shot naming and the own task of every method, by federation."""
    federations = groups(rows, "federation")
    present = {row["method"] for row in rows}
    order = [m for m in (CENTRAL, *BASELINES, *OURS) if m in present]
    size = (12, 0.6 + 2.8 * len(federations))
    figure, axes = plt.subplots(len(federations), 3, figsize=size, squeeze=False, sharey=True)
    for line, ((federation,), own) in zip(axes, federations.items(), strict=True):
        for axis, measure in zip(line, MEASURED, strict=True):
            for place, method in enumerate(reversed(order)):
                found = values([row for row in own if row["method"] == method], measure)
                _point(axis, found, place, color=_colour(method))
            axis.set_title(f"{federation}: {TITLES[measure]}", fontsize=9)
            axis.set_yticks(range(len(order)), list(reversed(order)), fontsize=7)
    return figure


def overall(rows: Rows) -> Any:
    """A figure of the differences between each method and training alone, over all federations and seeds."""
    found = pooled(rows)
    present = [method for (method,) in groups(found, "method")]
    order = [m for m in (CENTRAL, *BASELINES, *CREDIT, *OURS) if m in present and m != "local"]
    figure, axes = plt.subplots(1, 4, figsize=(13, 0.8 + 0.22 * len(order)), sharey=True)
    for axis, measure in zip(axes, (*MEASURED, "cka"), strict=True):
        _leads(axis, found, order, "local", measure, _colour)
        axis.set_title(f"{TITLES[measure]}: against local", fontsize=9)
    axes[0].set_yticks(range(len(order)), list(reversed(order)), fontsize=7)
    return figure


def anchors(rows: Rows) -> Any:
    """A figure of retrieval and alignment by the number of anchors, a curve a method."""
    return _curves(rows, lambda row: int(row["broken"].split()[0]), "training anchors", "method", ("r@1", "cka"))


def bridges(rows: Rows) -> Any:
    """A figure of retrieval by the number of pairs, a curve for each number of anchors."""
    named = [{**row, "anchors": row["broken"].replace(" left", "")} for row in rows]
    return _curves(named, lambda row: row["pairs"], "pairs at one site", "anchors", ("bridged r@1", "other r@1"))


def partitions(rows: Rows) -> Any:
    """A figure of the lead over training alone by skew: a point a seed, a line through the means."""
    cases, skews = groups(rows, "sites"), sorted({row["alpha"] for row in rows})
    methods = sorted({row["method"] for row in rows} - {"local"})
    figure, axes = plt.subplots(len(cases), 2, figsize=(9, 0.5 + 2.6 * len(cases)), squeeze=False)
    for line, ((sites,), own) in zip(axes, cases.items(), strict=True):
        for axis, measure in zip(line, ("accuracy", "r@1"), strict=True):
            for number, method in enumerate(methods):
                ahead = [
                    differences([row for row in own if row["alpha"] == alpha], method, "local", measure)
                    for alpha in skews
                ]
                points = [(place, value) for place, found in enumerate(ahead) for value in found]
                means = [(place, interval(found)[0]) for place, found in enumerate(ahead) if found]
                axis.plot(*zip(*points, strict=True), "o", markersize=3, color=f"C{number}")
                axis.plot(*zip(*means, strict=True), color=f"C{number}", label=method)
            axis.axhline(0, color="black", linewidth=0.8)
            axis.set_xticks(range(len(skews)), [f"α = {a:g}".replace("inf", "∞") for a in skews])
            axis.set_title(f"{sites} sites: {TITLES[measure]}, above training alone", fontsize=9)
    axes[0][0].legend(fontsize=7)
    return figure


def controls(rows: Rows) -> Any:
    """A figure of the lead over training alone, and of the spoilt site's share, where something is broken."""
    cases = [*groups(rows, "federation", "broken")]
    figure, (lead, share) = plt.subplots(1, 2, figsize=(11, 0.8 + 0.35 * len(cases)), sharey=True)
    for place, (federation, broken) in enumerate(cases):
        own = [row for row in rows if (row["federation"], row["broken"]) == (federation, broken)]
        for offset, (method, colour) in enumerate((("geodora", "tab:red"), ("geodora: λ=0", "tab:blue"))):
            ahead = differences(own, method, "local", "r@1")
            _point(lead, ahead, place + 0.2 * offset, color=colour)
            found = values([row for row in own if row["method"] == method], "share of the victim")
            _point(share, found, place + 0.2 * offset, color=colour)
    share.set_xlim(0, 0.6)
    lead.axvline(0, color="black", linewidth=0.8)
    share.axvline(0.25, color="black", linewidth=0.8)
    lead.set_yticks(range(len(cases)), [f"{federation}, {broken}" for federation, broken in cases], fontsize=8)
    lead.set_title("R@1 above training alone: geodora (red), λ = 0 (blue)", fontsize=9)
    share.set_title("share of the spoilt site among four", fontsize=9)
    return figure


def ablations(rows: Rows) -> Any:
    """A figure of the differences between each setting and the default, on the same seeds."""
    made = [row for row in rows if row["federation"] == "synthetic" and row["method"] != CENTRAL]
    names = [m for (m,) in groups(made, "method") if m.startswith("geodora:") or m == "geolora"]
    figure, axes = plt.subplots(1, 2, figsize=(11, 0.8 + 0.22 * len(names)), sharey=True)
    for axis, measure in zip(axes, ("r@1", "accuracy"), strict=True):
        _leads(axis, made, names, "geodora", measure)
        axis.set_title(f"{TITLES[measure]}: against geodora", fontsize=9)
    axes[0].set_yticks(range(len(names)), [n.replace("geodora: ", "") for n in reversed(names)], fontsize=7)
    return figure


def credit(rows: Rows) -> Any:
    """A figure of the parts of GeoDoRA from which its lead over training alone comes, by federation."""
    order = [m for m in (*CREDIT, "geodora") if any(row["method"] == m for row in rows)]
    federations = groups(rows, "federation")
    size = (3.2 * len(federations), 5)
    figure, axes = plt.subplots(2, len(federations), figsize=size, squeeze=False, sharey=True)
    for column, ((federation,), own) in enumerate(federations.items()):
        for axis, measure in zip(axes[:, column], ("r@1", "accuracy"), strict=True):
            _leads(axis, own, order, "local", measure)
            axis.set_title(f"{federation}: {TITLES[measure].split(',')[0]}", fontsize=9)
            axis.set_yticks(range(len(order)), list(reversed(order)), fontsize=7)
    return figure


def rates(rows: Rows) -> Any:
    """A figure of retrieval and own task by the multiple of the jobs' own learning rate."""
    found = [(row, rate_of(row["method"])) for row in rows if row["federation"] == "synthetic"]
    named = [{**row, "job": rate[0], "times": rate[1]} for row, rate in found if rate]
    return _curves(named, lambda row: row["times"], "× learning rate", "job", ("r@1", "accuracy"))


def rate_of(method: str) -> tuple[str, int] | None:
    """The job and the multiple of its learning rate, where several were tried and nothing else is changed."""
    job, _, change = method.partition(": ")
    if f"{job}: {RATE}5" not in ABLATIONS or (change and not change.removeprefix(RATE).isdigit()):
        return None
    return job, int(change.removeprefix(RATE) or 1)


def costs(rows: Rows) -> Any:
    """A figure of retrieval by the bytes that a method sends."""
    made = [row for row in rows if row["federation"] == "synthetic" and row["method"] != CENTRAL]
    figure, axis = plt.subplots(figsize=(6, 3.6))
    for (name,), own in groups(made, "method").items():
        sent = (values(own, "bytes up")[0] + values(own, "bytes down")[0]) / 1000
        average, half = interval(differences(made, name, "local", "r@1"))
        colour = "tab:red" if name in OURS else "tab:blue"
        axis.errorbar(sent, average, yerr=half, fmt="o", markersize=4, color=colour, elinewidth=0.6)
        axis.annotate(name, (sent, average), fontsize=6, xytext=(3, 2), textcoords="offset points")
    axis.set_xscale("log")
    axis.set_xlabel("kB a site and round, both ways")
    axis.set_title("R@1 above training alone", fontsize=9)
    return figure


def fedumm(rows: Rows) -> Any:
    """A figure of a unified model by clients and skew at equal compute, and by bytes on four sites."""
    figure, (answers, pictures, sent) = plt.subplots(1, 3, figsize=(13, 3.4))
    grid = [row for row in rows if (row["method"], row["rank"], row["rounds"]) == ("fedit", 16, 10)]
    named = [{**row, "skew": "central" if row["clients"] == 1 else f"α = {row['alpha']:g}"} for row in grid]
    for axis, measure in ((answers, "vqa_accuracy"), (pictures, "geneval")):
        _lines(axis, named, lambda row: row["clients"], "skew", measure)
        axis.set_xlabel("clients")
        axis.set_title(TITLES[measure], fontsize=9)
    answers.legend(fontsize=7)
    four = [row for row in rows if (row["clients"], row["alpha"], row["rounds"]) == (4, 0.5, 10)]
    for (method, rank, dora), own in groups(four, "method", "rank", "dora").items():
        name = f"{'geodora' if dora else method}, r = {rank}"
        average, half = interval(values(own, "vqa_accuracy"))
        place = values(own, "bytes up")[0] / 1000
        sent.errorbar(place, average, yerr=half if half == half else None, fmt="o", markersize=4)
        sent.annotate(name, (place, average), fontsize=6, xytext=(3, 3), textcoords="offset points")
    sent.set_xscale("log")
    sent.set_xlabel("kB up a site and round")
    sent.set_title("VQA soft accuracy, 4 sites, α = 0.5", fontsize=9)
    return figure


def _curves(
    rows: Rows, at: Callable[[Mapping[str, Any]], float], axis_name: str, by: str, measures: Sequence[str]
) -> Any:
    figure, axes = plt.subplots(1, len(measures), figsize=(4.5 * len(measures), 3.2))
    for axis, measure in zip(axes, measures, strict=True):
        _lines(axis, rows, at, by, measure)
        axis.set_xlabel(axis_name)
        axis.set_title(TITLES[measure], fontsize=9)
    axes[0].legend(fontsize=7)
    return figure


def _lines(axis: Any, rows: Rows, at: Callable[[Mapping[str, Any]], float], by: str, measure: str) -> None:
    """Draw a line for each value of a column, over the places that ``at`` gives the rows."""
    for (name,), own in groups(rows, by).items():
        places = sorted({at(row) for row in own})
        found = [interval(values([row for row in own if at(row) == place], measure)) for place in places]
        bars = [half if half == half else 0.0 for _, half in found]
        axis.errorbar(places, [m for m, _ in found], yerr=bars, marker="o", markersize=3, capsize=2, label=name)


def _leads(
    axis: Any,
    rows: Rows,
    order: Sequence[str],
    reference: str,
    measure: str,
    colour: Callable[[str], str] = lambda _: "tab:red",
) -> None:
    """Draw the difference of each method to one of them on the same seeds, the first on top."""
    for place, method in enumerate(reversed(order)):
        _point(axis, differences(rows, method, reference, measure), place, color=colour(method))
    axis.axvline(0, color="black", linewidth=0.8)


def _colour(method: str) -> str:
    return "tab:red" if method in OURS else "tab:blue" if method in BASELINES else "tab:grey"


def _point(axis: Any, found: Sequence[float], place: float, **style: Any) -> None:
    if found:
        average, half = interval(found)
        axis.errorbar(average, place, xerr=half if half == half else None, fmt="o", markersize=4, **style)


# Each figure, and the studies whose rows it shows.
FIGURES: dict[str, tuple[Callable[[Rows], Any], tuple[str, ...]]] = {
    "overall": (overall, ("methods", "ablations")),
    "methods": (methods, ("methods",)),
    "ablations": (ablations, ("methods", "ablations")),
    "credit": (credit, ("methods", "ablations")),
    "rates": (rates, ("methods", "ablations")),
    "costs": (costs, ("methods",)),
    "anchors": (anchors, ("anchors",)),
    "bridges": (bridges, ("bridges",)),
    "partitions": (partitions, ("partitions",)),
    "controls": (controls, ("controls",)),
    "fedumm": (fedumm, ("fedumm",)),
}


def draw_all(folder: Path) -> None:
    """Draw every figure that has rows."""
    for name, (draw, studies) in FIGURES.items():
        if rows := [row for study in studies for row in read(RESULTS / f"{study}.csv")]:
            figure = draw(rows)
            for axis in figure.axes:
                axis.grid(alpha=0.3)
            figure.tight_layout()
            figure.savefig(folder / f"{name}.png", dpi=110)
            plt.close(figure)
