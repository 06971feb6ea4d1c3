"""Retrieval between the test samples of sites whose results lie in one place: a table, a JSON and a picture.

In a real federation nobody has two sites' results; there the report on held-out anchors stands alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from fedgram.data.pixels import open_image
from fedgram.files import write_atomically, write_text
from fedgram.results import crossmodal, trained
from fedgram.results.crossmodal import Comparison, Embedded, Transfer
from fedgram.results.figure import short_names
from fedgram.results.report import number

_EXAMPLES, _ANSWERS = 6, 3


def write(folders: Sequence[Path], results: Path, console: Console) -> None:
    """Compare every pair of sites, print the tables, and write ``crossmodal.json`` and ``crossmodal.png``.

    Args:
        folders: result folders of sites; beside each may lie ``alone``, the site's model of training alone.
    """
    tested, together, transfers = _measure(folders)
    _, alone, transfers_alone = _measure([folder.parent / "alone" for folder in folders])
    facts = {
        "retrieval": together,
        "retrieval_alone": alone,
        "transfer": transfers,
        "transfer_alone": transfers_alone,
    }
    plain = {name: [dataclasses.asdict(row) for row in rows] for name, rows in facts.items()}
    write_text(results / "crossmodal.json", json.dumps(plain, indent=1, allow_nan=False))
    console.print(_table(together, {(c.query, c.gallery): c.relative for c in alone}))
    if transfers:
        before = {(t.query, t.teacher, t.concept): t.accuracy for t in transfers_alone}
        console.print(_transfer_table(transfers, before))
    write_atomically(
        results / "crossmodal.png", lambda part: _figure(tested, together).savefig(part, format="png", dpi=110)
    )


def _measure(folders: Sequence[Path]) -> tuple[list[Embedded], list[Comparison], list[Transfer]]:
    """Embed the test samples of the sites that have a result, and compare every pair of them."""
    sites = [trained.load(folder).site for folder in folders if (folder / "site.json").is_file()]
    tested = [crossmodal.embed(site, site.samples("test")) for site in sites]
    taught = [crossmodal.embed(site, site.samples("train")) for site in sites]
    compared = (crossmodal.compare(a, b) for a, b in permutations(tested, 2))
    comparisons = [c for c in compared if c.queries]  # sites without a concept in common have nothing to find
    pairs = [(query, teacher) for query in tested for teacher in taught if query.site is not teacher.site]
    return tested, comparisons, [t for query, teacher in pairs for t in crossmodal.transfers(query, teacher)]


def _table(together: Sequence[Comparison], alone: Mapping[tuple[str, str], float]) -> Table:
    table = Table(title="Retrieval between test samples, P@1 of the concept: no site ever saw a pair")
    table.add_column("asks")
    table.add_column("answers")
    for column in ("queries", "alone, relative", "together, relative", "together, raw", "chance", "mAP, relative"):
        table.add_column(column, justify="right")
    for c in together:
        numbers = (alone.get((c.query, c.gallery)), c.relative, c.raw, c.chance, c.relative_map)
        table.add_row(c.query, c.gallery, str(c.queries), *map(number, numbers))
    return table


def _transfer_table(transfers: Sequence[Transfer], alone: Mapping[tuple[str, str, str], float]) -> Table:
    table = Table(title="Concepts that the asking site never trained on, named by another site's labels")
    for column in ("asks", "teaches", "concept"):
        table.add_column(column)
    for column in ("samples", "alone", "together", "chance"):
        table.add_column(column, justify="right")
    for t in transfers:
        numbers = (alone.get((t.query, t.teacher, t.concept)), t.accuracy, t.chance)
        table.add_row(t.query, t.teacher, t.concept, str(t.samples), *map(number, numbers))
    return table


def _figure(tested: Sequence[Embedded], comparisons: Sequence[Comparison]) -> Figure:
    """Draw heat maps of P@1, and pictures with what they find at the other sites where a site has images."""
    pictures = [part for part in tested if part.site.modality.name == "image"]
    figure = Figure(figsize=(13, 4 + 4.4 * bool(pictures)), layout="constrained")
    upper, *lower = figure.subfigures(1 + bool(pictures), 1, squeeze=False)[:, 0]
    axes = upper.subplots(1, 2)
    for panel, measure in zip(axes, ("relative", "raw"), strict=True):
        _heat_map(panel, [part.site.name for part in tested], comparisons, measure)
    if pictures:
        axes = lower[0].subplots(2, _EXAMPLES, height_ratios=[1, 1.3])
        _examples(axes, pictures[0], [part for part in tested if part is not pictures[0]])
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
    short = short_names(names).values()
    axes.set_xticklabels(short, fontsize=8)
    axes.set_yticklabels(short, fontsize=8)


def _examples(axes: np.ndarray, pictures: Embedded, others: Sequence[Embedded]) -> None:
    """Test pictures of every concept (the first ones, not the best ones) and what they find elsewhere."""
    concepts = [s.concept for s in pictures.samples]
    each = max(1, _EXAMPLES // len(set(concepts)))
    rows = [i for c in sorted(set(concepts)) for i in [j for j, x in enumerate(concepts) if x == c][:each]]
    chosen = pictures[rows[:_EXAMPLES]]
    answers = {other.site.name: crossmodal.nearest(chosen, other, _ANSWERS) for other in others}
    for panel in axes.flat:
        panel.axis("off")
    for column, sample in enumerate(chosen.samples):
        picture, text = axes[:, column]
        picture.imshow(open_image(sample.content), cmap="gray")
        picture.set_title(sample.concept, fontsize=9)
        lines = []
        for name, matches in answers.items():
            lines.append(f"{name} finds")
            found = matches[column]
            right = [m.concept == sample.concept != "" for m in found]
            lines += [f" {'✓' if r else '✗'} {m.concept}, {m.id[:20]}" for m, r in zip(found, right, strict=True)]
        text.text(0, 1, "\n".join(lines), va="top", fontsize=7)
