"""The figure of the study of FedUMM: answers and pictures by the number of clients, at both numbers of steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedgram.files import write_atomically
from matplotlib.figure import Figure

from research.fedumm.studies import MORE, MOST, STEPS
from research.worth.unified import INFINITE, KNOWN, NEW, VQA, Unified

_PANELS = ((VQA, "answers"), (NEW, "pictures of new words"), (KNOWN, "pictures of known words"))
_LINES = (
    ("the same steps over all sites", STEPS, "tab:blue"),
    ("four times as many", MORE * STEPS, "tab:orange"),
    ("sixteen times as many", MOST * STEPS, "tab:green"),
)
_CLIENTS = (1, 2, 4, 8, 16)


def draw(unified: Unified, path: Path) -> None:
    """Draw a PNG: percent right with 95 % intervals over seeds; α is 0.5, and the base a line."""
    figure = Figure(figsize=(11, 3.4), layout="constrained")
    for axis, (measure, title) in zip(figure.subplots(1, len(_PANELS), sharey=True), _PANELS, strict=True):
        base = unified.level(measure, **unified.base)
        if base.units:
            axis.axhline(100 * base.mean, color="grey", linestyle=":", label="the base, untrained")
        for label, steps, colour in _LINES:
            _line(axis, unified, measure, steps, label, colour)
        axis.set_title(title, fontsize=11)
        axis.set_xticks(range(len(_CLIENTS)), ["central", *map(str, _CLIENTS[1:])])
        axis.set_xlabel("clients")
        axis.grid(axis="y", alpha=0.3)
        axis.set_ylim(0, 100)
    figure.axes[0].set_ylabel("right, in percent")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110, metadata={"Software": ""}))


def _line(axis: Any, unified: Unified, measure: str, steps: int, label: str, colour: str) -> None:
    found = []
    for place, clients in enumerate(_CLIENTS):
        alpha = INFINITE if clients == 1 else 0.5
        level = unified.level(measure, steps=steps, clients=clients, alpha=alpha)
        if level.units:
            found.append((place, 100 * level.mean, 100 * level.half if level.units > 1 else 0.0))
    if found:
        places, means, halves = zip(*found, strict=True)
        axis.errorbar(places, means, yerr=halves, marker="o", capsize=3, color=colour, label=label)
