"""The picture of a run: losses, alignment and weights over its rounds, and its results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedgram.files import write_atomically
from fedgram.model.tasks.metrics import LOWER_IS_BETTER
from fedgram.results.site_results import FLOORS, SiteResults, site_results

_FEW_PAIRS = 8  # whose names have room side by side


def draw(facts: dict[str, Any], path: Path) -> None:
    """Draw ``metrics.json`` as a PNG: losses, alignment, weights over the rounds; accuracy, CKA and retrieval."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    for panel, fill in zip(axes.flat, _PANELS, strict=True):
        fill(panel, facts)
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))


def panels(facts: dict[str, Any]) -> list[Figure]:
    """The parts of :func:`draw`, each a figure for a narrow place."""
    figures = []
    for fill in _PANELS:
        figures.append(Figure(figsize=(5.2, 3.6), layout="constrained"))
        fill(figures[-1].subplots(), facts)
    return figures


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
    if axes.lines:
        axes.legend(fontsize=7)


def _shares(axes: Axes, facts: dict[str, Any]) -> None:
    rounds = [r["round"] for r in facts["rounds"]]
    for site in _sites(facts):
        axes.plot(rounds, [r["shares"].get(site, np.nan) for r in facts["rounds"]], marker="o", markersize=3)
    axes.set(title="share of the mean (precision weights)", xlabel="round", ylim=(0, None))


def _main_metrics(axes: Axes, facts: dict[str, Any]) -> None:
    """Draw bars with their values, and floors as marks; an error is drawn against the largest one of its site."""
    sites = list(facts["test"])
    names, found = short_names(sites), [site_results(facts, site) for site in sites]
    bars = {name: [getattr(r, name) for r in found] for name in ("home", "together", "kept")}
    bars = {name: values for name, values in bars.items() if any(v is not None for v in values)}
    scales = [_scale(r) for r in found]
    width = 0.8 / max(len(bars), 1)
    for row, (label, values) in enumerate(bars.items()):
        places = np.arange(len(sites)) + width * (row + 0.5) - 0.4
        axes.bar(places, _relative(values, scales), width, label=label)
        for place, value in zip(places, values, strict=True):
            if value is not None:
                axes.text(place, 0.02, f"{value:.3g}", ha="center", fontsize=6, rotation=90 * (len(sites) > 5))
    for mark, (name, label) in zip("v^o", FLOORS.items(), strict=True):
        heights = _relative([r.floors.get(name) for r in found], scales)
        if not np.isnan(heights).all():
            axes.plot(np.arange(len(sites)), heights, f"k{mark}", markersize=5, fillstyle="none", label=label)
    axes.set(title="test metric (↓: lower is better)", xticks=range(len(sites)))
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.35)
    axes.set_xticklabels(
        [f"{names[s]}\n{r.label}" for s, r in zip(sites, found, strict=True)], fontsize=_font(sites)
    )
    if bars:
        axes.legend(fontsize=7, loc="upper center", ncols=3)


def _scale(found: SiteResults) -> float:
    """The height of 1 in the picture: the largest error of a site, and 1 where higher is better."""
    values = [v for v in (found.home, found.together, found.kept, *found.floors.values()) if v is not None]
    return max(values, default=1.0) or 1.0 if found.metric in LOWER_IS_BETTER else 1.0


def _relative(values: Sequence[float | None], scales: Sequence[float]) -> np.ndarray:
    return np.array([np.nan if v is None else v / scale for v, scale in zip(values, scales, strict=True)])


def _pairs(axes: Axes, facts: dict[str, Any], value: str, chance: str | None, title: str) -> None:
    names = short_names(sorted({site for p in facts["alignment"] for site in p["sites"]}))
    many = len(facts["alignment"]) > _FEW_PAIRS
    labels = [(" – " if many else "\n").join(names[site] for site in p["sites"]) for p in facts["alignment"]]
    places = np.arange(len(labels))
    before = {tuple(p["sites"]): p for p in facts["alignment_alone"]}
    alone = [_value(before.get(tuple(p["sites"]), {}), value) for p in facts["alignment"]]
    axes.bar(places - 0.2, alone, 0.4, label="home")
    axes.bar(places + 0.2, [_value(p, value) for p in facts["alignment"]], 0.4, label="together")
    if chance is not None:
        axes.plot(places, [_value(p, chance) for p in facts["alignment"]], "k_", markersize=18, label="chance")
    axes.set(title=title, xticks=places)
    axes.set_xticklabels(labels, fontsize=_font(labels), rotation=90 * many)
    axes.margins(y=0.25)
    axes.legend(fontsize=8, loc="upper center", ncols=3)


def _font(labels: Sequence[str]) -> int:
    return 8 if len(labels) <= _FEW_PAIRS else 6


def _value(record: dict[str, Any], name: str) -> float:
    value = record.get(name)
    return np.nan if value is None else value


_PANELS: tuple[Callable[[Axes, dict[str, Any]], None], ...] = (
    lambda axes, facts: _over_rounds(axes, facts, "task_loss", "task loss (training)"),
    lambda axes, facts: _over_rounds(axes, facts, "cka", "CKA to the consensus (training anchors)"),
    _shares,
    _main_metrics,
    lambda axes, facts: _pairs(axes, facts, "cka", None, "held-out CKA (debiased)"),
    lambda axes, facts: _pairs(
        axes, facts, "retrieval", "retrieval_chance", "held-out retrieval P@1, anchor coordinates"
    ),
)
