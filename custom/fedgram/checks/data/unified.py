"""The check of a unified site's questions and captions. Nothing here is ever sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedgram import modalities
from fedgram.checks.data import content, opening
from fedgram.checks.data.labels import FEW
from fedgram.checks.data.show import print_findings
from fedgram.checks.finding import Finding, any_failed
from fedgram.config.site import read_site_config
from fedgram.data.items import Question
from fedgram.data.pixels import Picture
from fedgram.data.splits import PARTS
from fedgram.demo.names import resolve
from fedgram.records import Sample
from fedgram.scoring.vqa_score import soft_accuracy
from fedgram.sites.unified_data import Items, read_items, read_rehearsal, split_items

_SHOWN, _FREQUENT = 3, 5


@dataclass(frozen=True)
class UnderstoodItems:
    """The data of a unified site as fedgram sees them.

    Attributes:
        site_file: that names them.
        parts: questions and captions by split.
        findings: what may be wrong.
    """

    site_file: Path
    parts: Mapping[str, Items]
    findings: tuple[Finding, ...]

    @property
    def failed(self) -> bool:
        """Whether training would not start."""
        return any_failed(self.findings)


def check(site_file: Path, job: Path | None = None) -> UnderstoodItems:
    """Read, split and look at questions, captions and their pictures; with a job's folder, open the site for it.

    Raises:
        ConfigError: the site file is wrong, or that of a site of one modality.
        DataError: the data cannot be read or split: file and entry are named.
    """
    config = read_site_config(site_file)
    here = resolve(config)
    parts, rehearsal = split_items(read_items(here)), read_rehearsal(here)
    findings = [*content.unreadable({"rehearsal": [*_pictures(rehearsal)]}), *_findings(parts)]
    if job is not None and not any_failed(findings):
        findings.append(opening.opened(site_file.stem, config, job))
    return UnderstoodItems(site_file, parts, tuple(findings))


def show(found: UnderstoodItems, console: Console) -> None:
    """Print counts, frequent answers, the first questions and captions, and the findings."""
    train = found.parts["train"]
    console.print(_counts(found.parts))
    if train.questions:
        console.print(_answers(train))
    console.print(_preview(train))
    print_findings(found.findings, console)


def _findings(parts: Mapping[str, Items]) -> Iterator[Finding]:
    pictures = {part: [*_pictures(items)] for part, items in parts.items()}
    unreadable = [*content.unreadable(pictures)]
    yield from unreadable
    if not unreadable:
        yield from content.duplicates(modalities.load("image"), pictures)
    for what, trained, tested in (
        ("questions", parts["train"].questions, parts["test"].questions),
        ("captions", parts["train"].captions, parts["test"].captions),
    ):
        if trained and len(tested) < FEW:
            yield Finding("warning", f"{len(tested)} test {what}: a test metric says little", "add pictures")
    yield from _answered([q for items in parts.values() for q in items.questions])
    known = {q.answer for q in parts["train"].questions}
    unknown = [q for q in parts["test"].questions if q.answer not in known]
    if unknown:
        share = len(unknown) / len(parts["test"].questions)
        shown = ", ".join(sorted({q.answer for q in unknown})[:_SHOWN])
        yield Finding(
            "warning",
            f"{share:.0%} of the test questions have an answer that no training question has: {shown}",
            "the model must have it from its base; merge spellings of one answer",
        )


def _answered(questions: list[Question]) -> Iterator[Finding]:
    """A warning where even the best answer cannot have the full score."""
    best = [max(soft_accuracy(answer, q.answers) for answer in {*q.answers}) for q in questions]
    short = sum(score < 1 for score in best)
    if short:
        yield Finding(
            "warning",
            f"no answer to {short} of {len(questions)} questions can score 1, as fewer than four people "
            f"agree; at best the soft accuracy is {fmean(best):.3f}",
            "nothing where VQA v2 has it so; a single person's answer may be listed ten times",
        )


def _pictures(items: Items) -> Iterator[Sample]:
    """Each picture once, as the check of image sites takes it."""
    for path in dict.fromkeys(item.image for item in (*items.questions, *items.captions)):
        yield Sample(id=path.name, concept="", group=path.name, content=Picture(path), source=str(path))


def _counts(parts: Mapping[str, Items]) -> Table:
    table = Table(title="Questions and captions by split")
    table.add_column("")
    for part in PARTS:
        table.add_column(part, justify="right")
    table.add_row("pictures", *(str(len([*_pictures(parts[part])])) for part in PARTS))
    table.add_row("captions", *(str(len(parts[part].captions)) for part in PARTS))
    table.add_row("questions", *(str(len(parts[part].questions)) for part in PARTS), end_section=True)
    kinds = {part: Counter(q.kind for q in parts[part].questions) for part in PARTS}
    for kind in sorted({kind for counted in kinds.values() for kind in counted}):
        table.add_row(f"… {kind}", *(str(kinds[part][kind]) for part in PARTS))
    return table


def _answers(train: Items) -> Table:
    """The most frequent answers: all that a model knows which never looks."""
    table = Table(title="The most frequent training answers")
    for column in ("kind", "answers"):
        table.add_column(column)
    for kind in sorted({q.kind for q in train.questions}):
        counted = Counter(q.answer for q in train.questions if q.kind == kind)
        shares = (f"{answer} {count / counted.total():.0%}" for answer, count in counted.most_common(_FREQUENT))
        table.add_row(Text(kind), Text(", ".join(shares)))
    return table


def _preview(train: Items) -> Table:
    table = Table(title="The first training items (shown here, never sent)")
    for column in ("picture", "question or caption", "answer", "concept"):
        table.add_column(column, overflow="fold")
    for question in train.questions[:_SHOWN]:
        cells = (question.image.name, question.text, question.answer, question.concept)
        table.add_row(*map(Text, cells))
    for caption in train.captions[:_SHOWN]:
        table.add_row(*map(Text, (caption.image.name, caption.text, "–", caption.concept)))
    return table
