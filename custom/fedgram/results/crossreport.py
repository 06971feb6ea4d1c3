"""Retrieval between the test samples of sites whose results lie in one place: a table, a JSON and a picture.

In a real federation nobody has two sites' results; there the report on held-out anchors stands alone.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from fedgram.data.pixels import open_image
from fedgram.files import write_atomically, write_text
from fedgram.results import crossmodal, page
from fedgram.results.crossfloors import RetrievalFloors, TransferFloors
from fedgram.results.crossmeasure import Measured, kind, measure
from fedgram.results.crossmodal import Comparison, Embedded, Transfer
from fedgram.results.figure import short_names
from fedgram.results.gallery import first_of_each, questions
from fedgram.results.intervals import WithInterval
from fedgram.results.owntest import KEPT, OwnTest
from fedgram.results.page import Page
from fedgram.results.report import modes, number, tables, verdicts
from fedgram.results.site_results import FLOORS
from fedgram.sites.settled import HOME, TOGETHER

_EXAMPLES, _ANSWERS = 6, 3


def write(folders: Sequence[Path], results: Path, console: Console) -> None:
    """Compare every pair of sites, print the tables, and write ``crossmodal.json`` and ``crossmodal.png``.

    ``report.html`` of the run gets its sites' test samples too, where ``metrics.json`` lies in the folder.

    Args:
        folders: result folders of sites; beside each may lie ``alone``, the site's model of training alone.
    """
    measured = measure(folders)
    together, home, floors = measured.together, measured.home, measured.retrieval_floors
    facts = {
        "own": measured.own,
        "retrieval": together.comparisons,
        "retrieval_alone": home.comparisons,
        "retrieval_floors": floors,
        "transfer": together.transfers,
        "transfer_alone": home.transfers,
        "transfer_floors": measured.transfer_floors,
    }
    plain = {name: [dataclasses.asdict(row) for row in rows] for name, rows in facts.items()}
    write_text(results / "crossmodal.json", json.dumps(plain, indent=1, allow_nan=False))
    across = [_table(together.comparisons, home.comparisons, floors)] if together.comparisons else []
    if together.transfers:
        across.append(_transfer_table(together.transfers, home.transfers, measured.transfer_floors))
    for table in [_own_table(measured.own), *across]:
        console.print(table)
    figure = _figure(measured)
    write_atomically(results / "crossmodal.png", lambda part: figure.savefig(part, format="png", dpi=110))
    if (results / "metrics.json").is_file():
        _write_page(results, measured, across)


def _write_page(results: Path, measured: Measured, across: Sequence[Table]) -> None:
    """Write the page of a run again, now with the test samples of its sites."""
    run = json.loads((results / "metrics.json").read_text(encoding="utf-8"))
    bars, tested = Figure(figsize=(9, 4.2), layout="constrained"), measured.together.tested
    _bars(bars.subplots(), {part.site.name: kind(part) for part in tested}, measured)
    figures = [bars] if across else []
    shown = Page(run, [*modes(run), *verdicts(run)], tables(run), across, measured.own, figures, questions(tested))
    page.write(results / "report.html", shown)


def _own_table(own: Sequence[OwnTest]) -> Table:
    table = Table(
        title="Sites' own test samples, with 95 % intervals over their groups",
        caption="Measured where the results lie, and never sent. The intervals are bootstraps, here and below.",
    )
    for column in ("site", "figure", "home", "together", "kept", *FLOORS.values()):
        table.add_column(column)
    for test in own:
        for label, found in test.figures.items():
            shown = (_between(found.get(name)) for name in (HOME, TOGETHER, KEPT, *FLOORS))
            table.add_row(test.site, label, *shown)
    return table


def _between(found: WithInterval | None) -> str:
    if found is None or found.interval is None:
        return number(None if found is None else found.value)
    return "{:.3f}\n{:.2f}–{:.2f}".format(found.value, *found.interval)


def _found(c: Comparison | None) -> WithInterval | None:
    return None if c is None else WithInterval(c.relative, c.interval)


def _named(t: Transfer | None) -> WithInterval | None:
    return None if t is None else WithInterval(t.accuracy, t.interval)


def _table(together: Sequence[Comparison], home: Sequence[Comparison], floors: Sequence[RetrievalFloors]) -> Table:
    before = {(c.query, c.gallery): c for c in home}
    table = Table(
        title="Retrieval between test samples, P@1 of the concept: no site ever saw a pair",
        caption="home, together: in the frame of the anchors, at sites that trained alone and by the federation. "
        "raw: by plain cosine, together. mAP: mean average precision, together. Floors on frozen tokens: class "
        "probabilities (cosine between those of two logistic regressions), ridge on anchors (a map between them).",
    )
    table.add_column("asks")
    table.add_column("answers")
    heads = "n", "home", "together", "raw", "class\nprobabilities", "ridge on\nanchors", "chance", "mAP"
    for column in heads:
        table.add_column(column, justify="right")
    for c, floor in zip(together, floors, strict=True):
        models = map(_between, (_found(before.get((c.query, c.gallery))), _found(c)))
        bounds = map(_between, (floor.class_probabilities, floor.ridge_on_anchors))
        scores = number(c.chance), number(c.relative_map)
        table.add_row(c.query, c.gallery, str(c.queries), *models, number(c.raw), *bounds, *scores)
    return table


def _transfer_table(
    transfers: Sequence[Transfer], home: Sequence[Transfer], floors: Sequence[TransferFloors]
) -> Table:
    before = {(t.query, t.teacher, t.concept): t for t in home}
    table = Table(
        title="Concepts that the asking site never trained on, named by another site's labels",
        caption="own anchors: a floor, the nearest class mean of the asking site's own anchors' frozen tokens, "
        "where it has anchors of the concept.",
    )
    for column in ("asks", "teaches", "concept"):
        table.add_column(column)
    for column in ("n", "home", "together", "own anchors", "chance"):
        table.add_column(column, justify="right")
    for t, floor in zip(transfers, floors, strict=True):
        found = _named(before.get((t.query, t.teacher, t.concept))), _named(t), floor.own_anchors
        table.add_row(t.query, t.teacher, t.concept, str(t.samples), *map(_between, found), number(t.chance))
    return table


def _figure(measured: Measured) -> Figure:
    """Draw P@1 of every pair beside its floor, and pictures with what they find where a site has images."""
    tested, comparisons = measured.together.tested, measured.together.comparisons
    pictures = [part for part in tested if kind(part) == "image"]
    others = [part for part in tested if kind(part) != "image"] or pictures[1:]
    heights = 1.9, 0.7 + 0.6 * len(others)  # of the pictures, and of what they find
    rows = [4.0, *([sum(heights)] if pictures else ())]
    figure = Figure(figsize=(13, sum(rows)), layout="constrained")
    upper, *lower = figure.subfigures(len(rows), 1, squeeze=False, height_ratios=rows)[:, 0]
    left, right = upper.subplots(1, 2, width_ratios=[1, 2.4])
    _heat_map(left, [part.site.name for part in tested], comparisons)
    _bars(right, {part.site.name: kind(part) for part in tested}, measured)
    if pictures:
        axes = lower[0].subplots(2, _EXAMPLES, height_ratios=heights)
        _examples(axes, pictures[0], others)
    return figure


def _bars(axes: Axes, kinds: Mapping[str, str], measured: Measured) -> None:
    """Draw home, together, the best floor and chance of every pair of modalities: means over their sites.

    Whiskers are 95 % intervals, those of several pairs of sites as if they were independent.
    """
    home = {(c.query, c.gallery): c for c in measured.home.comparisons}
    drawn: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for c, f in zip(measured.together.comparisons, measured.retrieval_floors, strict=True):
        floors = [v for v in (f.class_probabilities, f.ridge_on_anchors) if v is not None]
        best = max(floors, key=lambda floor: floor.value, default=None)
        bars = _found(home.get((c.query, c.gallery))), _found(c), best
        values = (np.nan if bar is None else bar.value for bar in bars)
        whiskers = (end for bar in bars for end in _whisker(bar))
        drawn.setdefault((kinds[c.query], kinds[c.gallery]), []).append((*values, c.chance, *whiskers))
    rows = [np.array(part) for part in drawn.values()]
    means = np.array([part[:, :4].mean(0) for part in rows]).reshape(-1, 4)
    halves = np.array([np.sqrt((part[:, 4:] ** 2).sum(0)) / len(part) for part in rows]).reshape(-1, 6)
    places = np.arange(len(drawn))
    for row, (label, colour) in enumerate((("home", "C0"), ("together", "C1"), ("best floor", "0.6"))):
        ends = halves[:, 2 * row : 2 * row + 2].T
        at = places + 0.27 * (row - 1)
        axes.bar(at, means[:, row], 0.27, label=label, color=colour, yerr=ends, error_kw={"elinewidth": 1})
    axes.plot(places, means[:, 3], "k_", markersize=18, label="chance")
    axes.set_title("retrieval P@1: home and together in the frame of the anchors, floor on frozen tokens", pad=24)
    axes.set(ylim=(0, 1), xticks=places)
    axes.set_xticklabels([f"{query} →\n{gallery}" for query, gallery in drawn], fontsize=8, rotation=60)
    axes.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)


def _whisker(found: WithInterval | None) -> tuple[float, float]:
    """The lengths of an interval below and above its value; 0 where there is none."""
    if found is None or found.interval is None:
        return 0.0, 0.0
    return max(found.value - found.interval[0], 0.0), max(found.interval[1] - found.value, 0.0)


def _heat_map(axes: Axes, names: list[str], comparisons: Sequence[Comparison]) -> None:
    values = np.full((len(names), len(names)), np.nan)
    for c in comparisons:
        values[names.index(c.query), names.index(c.gallery)] = c.relative
    axes.imshow(values, vmin=0, vmax=1, cmap="viridis")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            colour = "w" if value < 0.7 else "k"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=colour, fontsize=8)
    axes.set(title="together", xlabel="answers", ylabel="asks", xticks=range(len(names)), yticks=range(len(names)))
    short = short_names(names).values()
    axes.set_xticklabels(short, fontsize=8, rotation=30)
    axes.set_yticklabels(short, fontsize=8)


def _examples(axes: np.ndarray, pictures: Embedded, others: Sequence[Embedded]) -> None:
    """Test pictures of every concept (the first ones, not the best ones) and what they find elsewhere."""
    chosen = pictures[first_of_each([s.concept for s in pictures.samples], _EXAMPLES)]
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
