"""Retrieval between the test samples of sites whose results lie in one place: a table, a JSON and a picture.

In a real federation nobody has two sites' results; there the report on held-out anchors stands alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from fedgram import crossmodal
from fedgram.crossmodal import Comparison, Transfer
from fedgram.files import write_atomically, write_text
from fedgram.modalities.image import open_image
from fedgram.training.site import Site

_ANSWERS = 3


def write(folders: Sequence[Path], results: Path, console: Console) -> None:
    """Compare every pair of sites, print the table, and write ``crossmodal.json`` and ``crossmodal.png``."""
    sites = [crossmodal.load(folder) for folder in folders if (folder / "site.json").is_file()]
    comparisons = [crossmodal.compare(a, b) for a, b in permutations(sites, 2)]
    transfers = [t for a, b in permutations(sites, 2) for t in crossmodal.transfers(a, b)]
    facts = {"retrieval": comparisons, "transfer": transfers}
    plain = {name: [dataclasses.asdict(row) for row in rows] for name, rows in facts.items()}
    write_text(results / "crossmodal.json", json.dumps(plain, indent=1))
    console.print(_table(comparisons))
    if transfers:
        console.print(_transfer_table(transfers))
    write_atomically(
        results / "crossmodal.png", lambda part: _figure(sites, comparisons).savefig(part, format="png", dpi=110)
    )


def _table(comparisons: Sequence[Comparison]) -> Table:
    table = Table(title="Retrieval between test samples, P@1 of the concept: no site ever saw a pair")
    for column in ("asks", "answers", "queries", "anchor-relative", "raw cosine", "chance", "mAP (relative)"):
        table.add_column(column, justify="left" if column in ("asks", "answers") else "right")
    for c in comparisons:
        numbers = (f"{value:.3f}" for value in (c.relative, c.raw, c.chance, c.relative_map))
        table.add_row(c.query, c.gallery, str(c.queries), *numbers)
    return table


def _transfer_table(transfers: Sequence[Transfer]) -> Table:
    table = Table(title="Concepts that the asking site never trained on, named by another site's labels")
    for column in ("asks", "teaches", "concept", "samples", "accuracy", "chance"):
        table.add_column(column, justify="left" if column in ("asks", "teaches", "concept") else "right")
    for t in transfers:
        table.add_row(t.query, t.teacher, t.concept, str(t.samples), f"{t.accuracy:.3f}", f"{t.chance:.3f}")
    return table


def _figure(sites: Sequence[Site], comparisons: Sequence[Comparison]) -> Figure:
    """Heat maps of P@1, and pictures with what they find at the other sites where a site has images."""
    pictures = [site for site in sites if site.modality.name == "image"]
    figure = Figure(figsize=(13, 4 + 2.2 * 2 * bool(pictures)), layout="constrained")
    upper, *lower = figure.subfigures(1 + bool(pictures), 1, squeeze=False)[:, 0]
    axes = upper.subplots(1, 2)
    for panel, measure in zip(axes, ("relative", "raw"), strict=True):
        _heat_map(panel, [s.name for s in sites], comparisons, measure)
    if pictures:
        _examples(lower[0].subplots(1, 6), pictures[0], [s for s in sites if s is not pictures[0]])
    return figure


def _heat_map(axes: Axes, names: list[str], comparisons: Sequence[Comparison], measure: str) -> None:
    values = np.full((len(names), len(names)), np.nan)
    for c in comparisons:
        values[names.index(c.query), names.index(c.gallery)] = getattr(c, measure)
    axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color="w" if value < 0.7 else "k")
    title = {"relative": "retrieval P@1 in anchor coordinates", "raw": "retrieval P@1, raw cosine"}[measure]
    axes.set(title=title, xlabel="answers", ylabel="asks", xticks=range(len(names)), yticks=range(len(names)))
    axes.set_xticklabels(names, fontsize=8)
    axes.set_yticklabels(names, fontsize=8)


def _examples(axes: Sequence[Axes], site: Site, others: Sequence[Site]) -> None:
    """Two test pictures of every concept (the first ones, not the best ones) and what they find elsewhere."""
    samples = crossmodal.samples_of(site, "test")
    concepts = sorted({s.concept for s in samples})
    chosen = [s for concept in concepts for s in [x for x in samples if x.concept == concept][:2]][: len(axes)]
    for panel in axes:
        panel.axis("off")
    answers = {o.name: crossmodal.retrieve(site, [s.content for s in chosen], o, _ANSWERS) for o in others}
    for number, (panel, sample) in enumerate(zip(axes, chosen, strict=False)):
        panel.imshow(open_image(sample.content), cmap="gray")
        panel.set_title(sample.concept, fontsize=9)
        lines = []
        for name, matches in answers.items():
            lines.append(f"{name}:")
            lines += [f"  {'✓' if m.concept == sample.concept else '✗'} {m.id[:24]}" for m in matches[number]]
        panel.text(0, -0.05, "\n".join(lines), transform=panel.transAxes, va="top", fontsize=6.5)
