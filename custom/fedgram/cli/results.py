"""The commands that use the result of a run: predict, ask across modalities, merge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from fedgram.cli.console import console, plain_errors

Files = Annotated[list[Path], typer.Argument(help="files of its modality, one sample each")]
Query = Annotated[Path, typer.Argument(help="result folder of the site whose modality asks")]


def predict(result: Annotated[Path, typer.Argument(help="result folder of a site")], files: Files) -> None:
    """Print the answer of a site's own head to each file."""
    from fedgram.results.trained import load

    with plain_errors():
        table = Table("file", "prediction", "probability")
        for file, answer in zip(files, load(result).predict(files), strict=True):
            said = answer.value if isinstance(answer.value, str | tuple | float) else "a mask: see fedgram.load"
            likely = max(answer.scores.values(), default=None)
            table.add_row(str(file), _words(said), "–" if likely is None else f"{likely:.3f}")
        console.print(table)


def _words(value: str | tuple[str, ...] | float) -> str:
    return ", ".join(value) if isinstance(value, tuple) else value if isinstance(value, str) else f"{value:.6g}"


def retrieve(
    query: Query,
    gallery: Annotated[Path, typer.Argument(help="result folder of the site whose test samples answer")],
    files: Files,
    k: Annotated[int, typer.Option("-k", min=1, help="answers for each file")] = 5,
) -> None:
    """Find samples of another modality, in the frame of both sites' anchors."""
    from fedgram.results.trained import load

    with plain_errors():
        for file, matches in zip(files, load(query).retrieve(files, load(gallery), k), strict=True):
            table = Table("rank", "sample", "concept", "similarity", title=str(file))
            for rank, match in enumerate(matches, start=1):
                table.add_row(str(rank), escape(match.id), escape(match.concept), f"{match.similarity:.3f}")
            console.print(table)


def classify(
    query: Query,
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[TEACHER] FILES...",
            help="files of its modality, one sample each; before them, if its labels shall answer instead of the "
            "directory, the result folder of another site",
        ),
    ],
) -> None:
    """Name the concept of a sample by the directory of concepts, or by the labels of another site."""
    from fedgram.results.trained import load

    with plain_errors():
        teacher = load(files.pop(0)) if files[0].is_dir() else None
        table = Table("file", "concept", "similarity")
        for file, match in zip(files, load(query).classify(files, teacher), strict=True):
            table.add_row(str(file), escape(match.concept), f"{match.similarity:.3f}")
        console.print(table)


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
