"""The commands that use the result of a run: predict, ask across modalities, merge."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fedgram.cli.console import console, plain_errors

if TYPE_CHECKING:
    from fedgram.model.tasks.base import Prediction
    from fedgram.results.crossmodal import Match

_ASKED = "what is asked about: files of its modality, one sample or a table of them in each, or folders of files"

Files = Annotated[list[Path], typer.Argument(help=_ASKED)]
Query = Annotated[Path, typer.Argument(help="result folder of the site whose modality asks")]
Out = Annotated[Path | None, typer.Option(help="CSV file for all answers, one a row")]
_SHOWN = 50  # answers on the console; a file has all of them


def predict(
    result: Annotated[Path, typer.Argument(help="result folder of a site")], files: Files, out: Out = None
) -> None:
    """Answer by what a site has kept: its own head's class, labels or number for every sample."""
    from fedgram.results.trained import load

    with plain_errors():
        model = load(result)
        asked = model.read(files)
        answers = model.predict(asked)
        classes = [*answers[0].scores]
        rows = [
            [sample.id, _words(answer), *(str(answer.scores[c]) for c in classes)]
            for sample, answer in zip(asked, answers, strict=True)
        ]
        if out is not None:
            _write(out, ["id", "prediction", *(f"p({c})" for c in classes)], rows)
        likely = [max(answer.scores.values(), default=None) for answer in answers]
        shown = [
            [sample.id, _words(answer, ".6g"), "–" if p is None else f"{p:.3f}"]
            for sample, answer, p in zip(asked, answers, likely, strict=True)
        ]
        _show(["id", "prediction", "probability"], shown)


def _words(answer: Prediction, form: str = "") -> str:
    """The answer as text; a number in a form of :func:`format`, or with all its digits."""
    value = answer.value
    if isinstance(value, float):
        return format(value, form)
    return (
        "|".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else "a mask: see the API"
    )


def retrieve(
    query: Query,
    gallery: Annotated[Path, typer.Argument(help="result folder of the site whose test samples answer")],
    files: Files,
    k: Annotated[int, typer.Option("-k", min=1, help="answers for each sample")] = 5,
    out: Out = None,
) -> None:
    """Find samples of another modality, in the frame of both sites' anchors."""
    from fedgram.results.showing import words
    from fedgram.results.trained import load

    with plain_errors():
        model = load(query)
        asked = model.read(files)
        found = model.retrieve(asked, load(gallery), k)
        head = ["sample", "concept", "similarity", "content"]
        if out is not None:
            rows = [
                [s.id, str(rank), *_named(match), words(match.content)]
                for s, matches in zip(asked, found, strict=True)
                for rank, match in enumerate(matches, start=1)
            ]
            _write(out, ["id", "rank", *head], rows)
        for sample, matches in zip(asked[:_SHOWN], found, strict=False):
            said = words(sample.content, 60)
            console.print(sample.id if said in sample.id else f"{sample.id}: {said}", markup=False)
            _show(["rank", *head], [[str(r), *_named(m), words(m.content, 60)] for r, m in enumerate(matches, 1)])


def _named(match: Match) -> list[str]:
    return [match.id, match.concept, f"{match.similarity:.3f}"]


def classify(
    query: Query,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[TEACHER] FILES...",
            help=f"{_ASKED}; before them, if its labels shall answer instead of the directory, the result folder "
            "of another site",
        ),
    ],
    out: Out = None,
) -> None:
    """Name the concept of a sample by the directory of concepts, or by the labels of another site."""
    from fedgram.results.trained import holds_result, load

    with plain_errors():
        teacher = load(files.pop(0)) if holds_result(files[0]) else None
        model = load(query)
        asked = model.read(files)
        named = model.classify(asked, teacher)
        rows = [[s.id, m.concept, f"{m.similarity:.3f}"] for s, m in zip(asked, named, strict=True)]
        if out is not None:
            _write(out, ["id", "concept", "similarity"], rows)
        _show(["id", "concept", "similarity"], rows)


def _show(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows as a table, the first ones where there are many."""
    table = Table(*head)
    for row in rows[:_SHOWN]:
        table.add_row(*map(escape, row))
    console.print(table)
    if len(rows) > _SHOWN:
        console.print(f"{len(rows) - _SHOWN} more; --out writes all of them")


def _write(path: Path, head: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Write a CSV file, and say so."""
    from fedgram.files import write_text

    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *rows])
    write_text(path, text.getvalue())
    console.print(f"answers   {path}", soft_wrap=True)


def merge(
    result: Annotated[Path, typer.Argument(help="result folder of a site, or the server's with metrics.json")],
    out: Annotated[Path, typer.Argument(help="folder of the new checkpoint")],
    base: Annotated[Path | None, typer.Option(help="folder of the base, where it has moved")] = None,
    bf16: Annotated[bool, typer.Option("--bf16", help="write half as many bytes")] = False,
) -> None:
    """Write the base with the update merged into its weights: AutoModel loads it, no PEFT needed.

    A BERT's pooler is not part of it; use `last_hidden_state`.
    """
    from fedgram.results import merge as merging

    with plain_errors():
        merging.merge(result, out, base=base, bf16=bf16)
        console.print(f"merged model   {out}", soft_wrap=True)


def add_to(app: typer.Typer) -> None:
    """Add these commands to an application."""
    for command in (predict, retrieve, classify, merge):
        app.command()(command)
