"""A table and a picture of who has what: the items of each kind or concept at each site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fedgram.files import write_atomically
from matplotlib.figure import Figure
from rich.table import Table

_READABLE = 15  # columns beyond which numbers no longer fit into the cells


def table(counts: Mapping[str, Counter[str]]) -> Table:
    """Make a table: sites below each other, the most frequent first to the right, sums at both ends."""
    words = _words(counts)
    shown = Table(title="who has what", show_footer=True)
    shown.add_column("site", footer="all")
    for word in words:
        shown.add_column(word, justify="right", footer=str(sum(own[word] for own in counts.values())))
    shown.add_column("all", justify="right", footer=str(sum(own.total() for own in counts.values())))
    for site, own in counts.items():
        shown.add_row(site, *(str(own[word]) if own[word] else "·" for word in words), str(own.total()))
    return shown


def draw(counts: Mapping[str, Counter[str]], path: Path, title: str) -> None:
    """Draw a PNG: a row for each site, a column for each kind or concept; darker for more of what a site has."""
    words = _words(counts)
    numbers = np.array([[own[word] for word in words] for own in counts.values()], dtype=float)
    shares = numbers / np.maximum(numbers.sum(1, keepdims=True), 1)
    figure = Figure(figsize=(3 + 0.6 * min(len(words), 30), 1.6 + 0.35 * len(counts)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(words)), words, rotation=30, ha="right")
    axes.set_yticks(range(len(counts)), [f"{site} ({own.total()})" for site, own in counts.items()])
    axes.set_title(title)
    if len(words) <= _READABLE:
        for (row, column), number in np.ndenumerate(numbers):
            tone = "white" if shares[row, column] > 0.6 else "black"
            axes.text(column, row, f"{number:.0f}", ha="center", va="center", color=tone, fontsize=8)
    figure.colorbar(image, ax=axes, label="share of the site's items")
    write_atomically(path, lambda part: figure.savefig(part, format="png", dpi=110))


def _words(counts: Mapping[str, Counter[str]]) -> list[str]:
    total: Counter[str] = sum(counts.values(), Counter())
    return sorted(total, key=lambda word: (-total[word], word))
