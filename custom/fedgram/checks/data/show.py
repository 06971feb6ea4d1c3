"""Tables for a person at the site; they hold private data and go to the screen only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedgram.checks.data import Understood
from fedgram.checks.data.labels import counts
from fedgram.checks.finding import Finding
from fedgram.data.clips import Clip, look
from fedgram.data.pixels import Picture, open_image
from fedgram.data.rows import Row, folded, is_missing
from fedgram.data.splits import PARTS
from fedgram.errors import DataError
from fedgram.model.tasks.segmentation import pixel_counts
from fedgram.records import Sample

_PREVIEW, _LETTERS = 5, 40
_STYLES = {"ok": "green", "warning": "yellow", "failure": "red", "skipped": "dim"}


def show(found: Understood, console: Console) -> None:
    """Print counts, columns, the first samples, and the findings."""
    config = found.config
    console.print(f"{config.modality}, {config.task}, {config.data}", markup=False)
    if config.bridge is not None:
        console.print(f"paired with {config.bridge.modality}, {config.bridge.data}", markup=False)
    console.print(_splits(found))
    features = next((s.content for s in found.parts["train"] if isinstance(s.content, Row)), None)
    if features is not None:
        console.print(_features(found), markup=False)
    console.print(_preview(found))
    print_findings(found.findings, console)


def print_findings(findings: Sequence[Finding], console: Console) -> None:
    """Print the findings, each with its remedy."""
    table = Table(title="Findings", show_lines=True)
    for column in ("", "what", "remedy"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        table.add_row(Text(finding.level, _STYLES[finding.level]), Text(finding.text), Text(finding.remedy))
    console.print(table if findings else Text("nothing to complain of", "green"))


def _splits(found: Understood) -> Table:
    table = Table(title="Samples by split")
    table.add_column("")
    for part in PARTS:
        table.add_column(part, justify="right")
    table.add_row("samples", *(str(len(found.parts[part])) for part in PARTS))
    if found.pairs:
        table.add_row("pairs", *(str(len(found.pairs[part])) for part in PARTS))
    table.add_row("groups", *(str(len({s.group for s in found.parts[part]})) for part in PARTS), end_section=True)
    labels = counts(found.parts)
    for label in sorted({label for part in labels.values() for label in part}):
        table.add_row(label, *(str(labels[part][label]) for part in PARTS))
    if found.config.reading.task == "regression":
        table.add_row(found.config.reading.target, *(_spread(found.parts[part]) for part in PARTS))
    if found.config.reading.task == "segmentation" and not found.failed:
        pixels = [pixel_counts(found.parts[part]) for part in PARTS]
        for value in sorted({value for part in pixels for value in part}):
            shares = (part.get(value, 0) / (sum(part.values()) or 1) for part in pixels)
            table.add_row(f"pixels of {value}", *(f"{share:.1%}" for share in shares))
    return table


def _spread(samples: Sequence[Sample]) -> str:
    """Mean, deviation and range of the targets."""
    numbers = [s.target for s in samples if isinstance(s.target, float)]
    if not numbers:
        return "–"
    return f"{np.mean(numbers):.3g} ± {np.std(numbers):.2g} ({min(numbers):.3g} … {max(numbers):.3g})"


def _features(found: Understood) -> str:
    """Columns of numbers and of categories, as the table was read."""
    rows = [s.content for s in found.parts["train"]]
    texts = [c for i, c in enumerate(rows[0].columns) if any(isinstance(row.values[i], str) for row in rows)]
    numbers = [c for c in rows[0].columns if c not in texts]
    missing = sum(is_missing(cell) for row in rows for cell in row.values)
    share = missing / (len(rows) * len(rows[0].columns))
    return (
        f"{len(numbers)} columns of numbers: {folded(numbers) or '–'}\n"
        f"{len(texts)} columns of categories: {folded(texts) or '–'}\n{share:.1%} of the cells are missing"
    )


def _preview(found: Understood) -> Table:
    table = Table(title="The first training samples (shown here, never sent)")
    for column in ("id", "group", "concept", "target", "content"):
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    for sample in found.parts["train"][:_PREVIEW]:
        target = (
            sample.target.name if isinstance(sample.target, Path) else ", ".join(sample.labels) or sample.target
        )
        cells = (sample.id, sample.group, sample.concept, target, _content(sample))
        table.add_row(*(Text(str(cell)) for cell in cells))
    return table


def _content(sample: Sample) -> str:
    content = sample.content
    if isinstance(content, Row):
        cells = zip(content.columns, content.values, strict=True)
        return ", ".join(f"{name} {value}" for name, value in cells if not is_missing(value))[:_LETTERS] + "…"
    if isinstance(content, Picture):
        try:
            return "{}, {} × {}".format(content.path.name, *open_image(content).size)
        except DataError as error:
            return f"{content.path.name}, {error.problem}"
    if isinstance(content, Clip):
        try:
            header = look(content)
            return f"{content.path.name}, {header.seconds:.2f} s, {header.rate} Hz, {header.channels} channels"
        except DataError as error:
            return f"{content.path.name}, {error.problem}"
    text = str(content)
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}… ({len(text)} letters)"
