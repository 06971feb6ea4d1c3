"""The picture of a run: losses, alignment and weights over its rounds, and its results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedgram.files import write_atomically
from fedgram.model.tasks.metrics import LOWER_IS_BETTER, main_metric


def draw(facts: dict[str, Any], path: Path) -> None:
    """Draw ``metrics.json`` as a PNG: losses, alignment, weights over the rounds; accuracy, CKA and retrieval."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    _over_rounds(axes[0, 0], facts, "task_loss", "task loss")
    _over_rounds(axes[0, 1], facts, "cka", "CKA to the consensus (training anchors)")
    _shares(axes[0, 2], facts)
    _main_metrics(axes[1, 0], facts)
    _pairs(axes[1, 1], facts, "cka", None, "held-out CKA (debiased)")
    _pairs(axes[1, 2], facts, "retrieval", "retrieval_chance", "held-out retrieval P@1, anchor coordinates")
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))


def short_names(sites: Sequence[str]) -> dict[str, str]:
    """Shorten names by what all of them begin with (``hosp-``), for narrow places."""
    first = {site.partition("-")[0] + "-" for site in sites}
    prefix = first.pop() if len(first) == 1 else ""
    return {site: site.removeprefix(prefix) for site in sites}


def _sites(facts: dict[str, Any]) -> list[str]:
    return sorted({site for record in facts["rounds"] for site in record["shares"]})


def _over_rounds(axes: Axes, facts: dict[str, Any], metric: str, title: str) -> None:
    for site in _sites(facts):
        points = [
            (r["round"], r["metrics"][site][metric])
            for r in facts["rounds"]
            if metric in r["metrics"].get(site, {})
        ]
        axes.plot(*np.array(points).reshape(-1, 2).T, marker="o", markersize=3, label=site)
    axes.set(title=title, xlabel="round")
    axes.legend(fontsize=7)


def _shares(axes: Axes, facts: dict[str, Any]) -> None:
    rounds = [r["round"] for r in facts["rounds"]]
    for site in _sites(facts):
        axes.plot(rounds, [r["shares"].get(site, np.nan) for r in facts["rounds"]], marker="o", markersize=3)
    axes.set(title="share of the mean (precision weights)", xlabel="round", ylim=(0, None))


def main_results(facts: dict[str, Any], site: str) -> tuple[str | None, float | None, float | None]:
    """The metric that a site is judged by, and its value on test data alone and together; None where unknown."""
    alone, together = (facts[part].get(site, {}) for part in ("test_alone", "test"))
    metric = main_metric({*alone, *together})
    return (None, None, None) if metric is None else (metric, alone.get(metric), together.get(metric))


def labelled(metric: str | None) -> str:
    """Label a metric by its name, with an arrow where lower is better."""
    return "–" if metric is None else f"{metric} ↓" if metric in LOWER_IS_BETTER else metric


def _main_metrics(axes: Axes, facts: dict[str, Any]) -> None:
    """Draw bars with their values; an error has no upper limit, so its bars are drawn against the larger one."""
    sites = list(facts["test"])
    names, places, labels = short_names(sites), np.arange(len(sites)), []
    heights = np.full((2, len(sites)), np.nan)
    for column, site in enumerate(sites):
        metric, *values = main_results(facts, site)
        labels.append(f"{names[site]}\n{labelled(metric)}")
        found = [value for value in values if value is not None]
        scale = max(found, default=1.0) if metric in LOWER_IS_BETTER else 1.0
        for row, value in enumerate(values):
            if value is not None:
                heights[row, column] = value / (scale or 1.0)
                axes.text(column + 0.4 * row - 0.2, 0.02, f"{value:.3g}", ha="center", fontsize=7)
    for row, label in enumerate(("alone", "together")):
        axes.bar(places + 0.4 * row - 0.2, heights[row], 0.4, label=label)
    axes.set(
        title="test metric (↓: lower is better)",
        xticks=places,
        ylim=(min([0, *heights.flat[~np.isnan(heights.flat)]]), 1.15),
    )
    axes.set_xticklabels(labels, fontsize=8)
    axes.legend(fontsize=8, loc="upper center", ncols=2)


def _pairs(axes: Axes, facts: dict[str, Any], value: str, chance: str | None, title: str) -> None:
    names = short_names(sorted({site for p in facts["alignment"] for site in p["sites"]}))
    labels = ["\n".join(names[site] for site in p["sites"]) for p in facts["alignment"]]
    places = np.arange(len(labels))
    before = {tuple(p["sites"]): p for p in facts["alignment_alone"]}
    alone = [_value(before.get(tuple(p["sites"]), {}), value) for p in facts["alignment"]]
    axes.bar(places - 0.2, alone, 0.4, label="alone")
    axes.bar(places + 0.2, [_value(p, value) for p in facts["alignment"]], 0.4, label="together")
    if chance is not None:
        axes.plot(places, [_value(p, chance) for p in facts["alignment"]], "k_", markersize=18, label="chance")
    axes.set(title=title, xticks=places)
    axes.set_xticklabels(labels, fontsize=8)
    axes.legend(fontsize=8)


def _value(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    return np.nan if value is None else value
