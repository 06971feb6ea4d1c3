"""The picture of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedgram.files import write_atomically


def draw(facts: dict[str, Any], path: Path) -> None:
    """Draw ``metrics.json`` as a PNG: losses, alignment, weights over the rounds; accuracy, CKA and retrieval."""
    figure = Figure(figsize=(13, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    _over_rounds(axes[0, 0], facts, "task_loss", "task loss")
    _over_rounds(axes[0, 1], facts, "cka", "CKA to the consensus (training anchors)")
    _shares(axes[0, 2], facts)
    _accuracy(axes[1, 0], facts)
    _pairs(axes[1, 1], facts, "cka", None, "held-out CKA (debiased)")
    _pairs(axes[1, 2], facts, "retrieval", "retrieval_chance", "held-out retrieval P@1, anchor coordinates")
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))


def short_names(sites: Sequence[str]) -> dict[str, str]:
    """Names without what all of them begin with (``hosp-``), for narrow places."""
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


def _accuracy(axes: Axes, facts: dict[str, Any]) -> None:
    sites = list(facts["test"])
    places = np.arange(len(sites))
    for offset, (label, part) in enumerate({"alone": "test_alone", "together": "test"}.items()):
        values = [facts[part].get(site, {}).get("accuracy", np.nan) for site in sites]
        axes.bar(places + 0.4 * offset - 0.2, values, 0.4, label=label)
    axes.set(title="test accuracy", xticks=places, ylim=(0, 1))
    axes.set_xticklabels(short_names(sites).values(), fontsize=8)
    axes.legend(fontsize=8, loc="lower right")


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
