"""Public anchor sets: build one from your files, check it, fill its gaps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from fedgram.cli.console import notes, plain_errors

if TYPE_CHECKING:
    from fedgram.anchors import AnchorSet
    from fedgram.anchors.synthesis import Generator

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
synthesise = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Fill the empty slots of one modality; what is made is marked synthetic in the manifest.",
)
app.add_typer(synthesise, name="synthesise")

PRIVATE = (
    "An anchor set is public: every site and the server hold its files, and what a model makes of them is sent. "
    "Build it from data that anybody may have, never from a site's own; mind names in EXIF and DICOM headers."
)

SetFolder = Annotated[Path, typer.Argument(metavar="SET", help="folder of an anchor set, with manifest.json")]
Out = Annotated[Path, typer.Argument(help="folder of the new set")]
Licence = Annotated[str, typer.Option(help="licence of the anchors that are made")]
Seed = Annotated[int, typer.Option(help="the same seed makes the same anchors")]
Concepts = Annotated[list[str] | None, typer.Option("--concept", help="fill these concepts only; repeat")]
Declared = Annotated[
    list[str] | None, typer.Option("--modality", help="package.module:attribute of a modality of your own; repeat")
]
Templates = Annotated[
    list[str] | None, typer.Option("--template", help="text with {concept} and {columns of the facts}; repeat")
]
Facts = Annotated[Path | None, typer.Option(help="table: concept, and a column for each fact")]


@app.command()
def build(
    source: Annotated[Path, typer.Argument(help="holds <modality>/<concept>/<file>, and perhaps sources.toml")],
    out: Out,
    licence: Annotated[
        str | None, typer.Option(help="licence of the files; sources.toml can say it by modality")
    ] = None,
    origin: Annotated[str | None, typer.Option("--source", help="data set, version, citation")] = None,
    name: Annotated[str | None, typer.Option(help="name of the set; by default that of its folder")] = None,
    modality: Declared = None,
) -> None:
    """Build an anchor set from folders of public files."""
    with plain_errors():
        from fedgram.anchors.build import build as build_set

        notes().print(PRIVATE, style="yellow")
        terms = {key: value for key, value in {"licence": licence, "source": origin}.items() if value}
        _show(build_set(source, out, name=name or out.resolve().name, terms=terms, declared=modality or []))


@app.command()
def check(
    anchors: SetFolder,
    heldout: Annotated[Path | None, typer.Argument(help="the held-out set: no anchor may be in both")] = None,
    job: Annotated[Path | None, typer.Option(help="job folder that is to use them: write it there")] = None,
    modality: Declared = None,
) -> None:
    """Verify one or two sets, show what they cover, and print how a job names them, or write it into a job.

    The tables go to standard error, and the settings of the job (`anchors` and `heldout`) to standard output. Exit
    code 1 when an anchor is there twice: then no job is written.
    """
    with plain_errors():
        from fedgram.anchors import load_anchors
        from fedgram.anchors.coverage import duplicates, known_modalities
        from fedgram.config.jobfolder import pin_anchors

        sets = {"anchors": load_anchors(anchors)} | ({"heldout": load_anchors(heldout)} if heldout else {})
        for found in sets.values():
            _show(found)
        twice = duplicates(sets, known_modalities(sets.values(), modality or []))
        for double in twice:
            places = ", ".join(f"{label} {slot}" for label, slot in double.places)
            notes().print(f"the same {double.modality}: {places}", style="red", markup=False)
        pins = {label: found.pin() for label, found in sets.items()}
        if job is None or twice:
            typer.echo(json.dumps(pins if heldout else pins["anchors"]))
        else:
            pin_anchors(job, pins)
            notes().print(f"written into {job}", markup=False)
        if twice:
            raise typer.Exit(1)


@synthesise.command()
def text(
    anchors: SetFolder,
    out: Out,
    licence: Licence,
    template: Templates = None,
    facts: Facts = None,
    model: Annotated[str | None, typer.Option(help="ask this causal language model: folder or hub id")] = None,
    concept: Concepts = None,
    seed: Seed = 0,
) -> None:
    """Make texts from templates, or by a language model that is asked with them."""
    with plain_errors():
        from fedgram.anchors.synthesis.prompts import read_prompts, sentences

        prompts = read_prompts(template or [], facts)
        if model is None:
            generator = sentences(prompts)
        else:
            from fedgram.anchors.synthesis.pretrained import language_model

            generator = language_model(model, prompts)
        _fill(anchors, out, generator, licence, seed, concept)


@synthesise.command()
def image(
    anchors: SetFolder,
    out: Out,
    licence: Licence,
    model: Annotated[str, typer.Option(help="text-to-image pipeline of diffusers: folder or hub id")],
    template: Templates = None,
    facts: Facts = None,
    steps: Annotated[int, typer.Option(min=1, help="denoising steps")] = 30,
    concept: Concepts = None,
    seed: Seed = 0,
) -> None:
    """Make images by a diffusion pipeline that is asked with templates."""
    with plain_errors():
        from fedgram.anchors.synthesis.pretrained import diffusion_pipeline
        from fedgram.anchors.synthesis.prompts import read_prompts

        prompts = read_prompts(template or [], facts)
        _fill(anchors, out, diffusion_pipeline(model, prompts, steps), licence, seed, concept)


@synthesise.command()
def tabular(
    anchors: SetFolder,
    out: Out,
    licence: Licence,
    rows: Annotated[
        Path | None, typer.Option(help="public table with a concept column; else the set's rows")
    ] = None,
    concept: Concepts = None,
    seed: Seed = 0,
) -> None:
    """Make rows by a Gaussian copula of each concept."""
    with plain_errors():
        from fedgram.anchors import load_anchors
        from fedgram.anchors.synthesis.copula import gaussian_copula
        from fedgram.anchors.synthesis.sources import table_rows

        generator = gaussian_copula(*table_rows(load_anchors(anchors), rows))
        _fill(anchors, out, generator, licence, seed, concept)


@synthesise.command()
def genomics(
    anchors: SetFolder,
    out: Out,
    licence: Licence,
    sequences: Annotated[
        Path | None, typer.Option(help="public FASTA with its label table; else the set's sequences")
    ] = None,
    order: Annotated[int, typer.Option(min=0, help="bases that the next one depends on")] = 3,
    concept: Concepts = None,
    seed: Seed = 0,
) -> None:
    """Make DNA by a Markov chain of each concept."""
    with plain_errors():
        from fedgram.anchors import load_anchors
        from fedgram.anchors.synthesis import sources
        from fedgram.anchors.synthesis.markov import markov_chain

        found, fitted_on = sources.sequences(load_anchors(anchors), sequences)
        _fill(anchors, out, markov_chain(found, order, fitted_on), licence, seed, concept)


def _fill(
    anchors: Path, out: Path, generator: Generator, licence: str, seed: int, concepts: list[str] | None
) -> None:
    from fedgram.anchors import load_anchors
    from fedgram.anchors.synthesis import fill

    _show(fill(load_anchors(anchors), out, generator, licence=licence, seed=seed, concepts=concepts or []))


def _show(anchors: AnchorSet) -> None:
    """Print coverage and shortcomings of a set on standard error."""
    from fedgram.anchors.coverage import coverage, modality_names, shortcomings

    table = Table("concept", *modality_names(anchors), title=f"{anchors.name}: {len(anchors)} slots")
    for concept, by_modality in coverage(anchors).items():
        table.add_row(concept, *map(str, by_modality.values()))
    notes().print(table)
    for line in shortcomings(anchors):
        notes().print(line, style="yellow", markup=False)
