"""The first command: a federation out of a user's own files, checked, with the next command said."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fedgram.cli.console import console, plain_errors
from fedgram.cli.said import ANCHORS, KNOWN, Entry, by_site, entry_of, modality_of, said_for
from fedgram.errors import ConfigError, DataError

if TYPE_CHECKING:
    from fedgram.anchors.public import Public
    from fedgram.checks.start import NewSite, Plan
    from fedgram.data.guess import Guess

_SITES = "NAME:MODALITY:PATH, NAME:PATH or PATH of each site's data; asked for when absent"
_ANCHORS = (
    "public files, the same for everybody: labelled as the sites' data are (MODALITY:PATH or PATH, one of each "
    "modality), or a folder train/MODALITY/CONCEPT/FILE, or a set that is built; repeat"
)
_COLUMN = "{}, where it is not told from the file: COLUMN, or SITE=COLUMN; repeat"


def init(
    sites: Annotated[list[str] | None, typer.Argument(metavar="[SITE]...", help=_SITES)] = None,
    anchors: Annotated[list[str] | None, typer.Option("--anchors", help=_ANCHORS)] = None,
    out: Annotated[Path, typer.Option(help="folder for job/, run/ and anchors/")] = Path(),
    label: Annotated[list[str] | None, typer.Option(help=_COLUMN.format("what the head learns"))] = None,
    group: Annotated[
        list[str] | None,
        typer.Option(help=_COLUMN.format("what must not be on two sides of a split (the patient); id: every row")),
    ] = None,
    text: Annotated[list[str] | None, typer.Option(help=_COLUMN.format("the texts"))] = None,
    path: Annotated[list[str] | None, typer.Option(help=_COLUMN.format("the images' files"))] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="TASK or SITE=TASK, where it is not classification")
    ] = None,
    tokenizer: Annotated[
        list[str] | None, typer.Option(help="SITE=NAME of a frozen encoder, instead of what runs offline")
    ] = None,
    method: Annotated[str, typer.Option(help="geodora, or any other that `fedgram job write` knows")] = "geodora",
    licence: Annotated[str, typer.Option(help="licence of the public files")] = "not stated",
    source: Annotated[str, typer.Option(help="where the public files are from")] = "the user's public files",
    force: Annotated[bool, typer.Option("--force", help="overwrite what an earlier call wrote")] = False,
) -> None:
    """Make a federation out of your own files: site files, anchors, job and workspace, checked.

    Modality, label, group and text column are told from the data where they leave no choice, and said. Ends with 1
    if training would not start.
    """
    from fedgram.checks import start

    with plain_errors():
        entries = [entry_of(one) for one in sites] if sites else _asked_sites()
        names = [entry.name for entry in entries]
        columns = {"label": label, "text": text, "path": path}
        hints = {what: by_site(what, values, ["", *names, ANCHORS]) for what, values in columns.items() if values}
        own = {"group": group, "task": task}
        hints |= {what: by_site(what, values, ["", *names]) for what, values in own.items() if values}
        encoders = by_site("tokenizer", tokenizer or [], names)
        plan = start.Plan(
            folder=out,
            sites=[_site(entry, hints, encoders) for entry in entries],
            force=force,
            licence=licence,
            source=source,
        )
        for site in plan.sites:
            _tell(site.name, site.path, site.guess)
        _write(plan, anchors or [], hints, method)


def _write(plan: Plan, anchors: Sequence[str], hints: Mapping[str, Mapping[str, str]], method: str) -> None:
    """Build the anchors, write everything, check it, and say what comes next."""
    from dataclasses import replace

    from fedgram.anchors.coverage import shortcomings
    from fedgram.checks import start

    filled = plan.folder / start.PUBLIC
    if not anchors and start.is_filled(filled):
        anchors = [str(filled)]
    if not anchors:
        _to_fill(plan)
        return
    plan = replace(plan, public=[_public(one, plan, hints) for one in anchors])
    sets = start.anchors_of(plan)
    for part, found in sets.items():
        concepts = len({slot.concept for slot in found.slots})
        console.print(f"{found.folder}: {len(found)} anchors of {concepts} concepts ({part})", soft_wrap=True)
    for line in shortcomings(sets["train"]):
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    if "heldout" not in sets:
        console.print("no held-out anchors: the report measures alignment on the training anchors", style="yellow")
    if plan.licence == "not stated" and not all(isinstance(one, Path) for one in plan.public):
        text = "every site will hold the public files: say --licence and --source before others do"
        console.print(text, style="yellow", soft_wrap=True)
    _check(start.write(plan, sets, method))
    job, run = plan.folder / start.JOB, plan.folder / start.RUN
    places = "" if plan.folder == Path() else f" {job} {run}"
    console.print(f"\nwritten: {job}, {run}\nnext: fedgram simulate{places}", markup=False, soft_wrap=True)


def _check(site_files: Sequence[Path]) -> None:
    """Check every site's data as `fedgram data check` does; ends with 1 where training would not start."""
    from fedgram.checks import data as datacheck
    from fedgram.checks.data.show import print_findings

    failed = False
    for path in site_files:
        found = datacheck.check(path)
        counts = ", ".join(f"{len(samples)} to {part}" for part, samples in found.parts.items())
        console.print(f"{path.stem}: {counts}", markup=False, soft_wrap=True)
        if found.findings:
            print_findings(found.findings, console)
        failed = failed or found.failed
    if failed:
        console.print("correct what failed, and give the command again with --force", style="red")
        raise typer.Exit(1)


def _to_fill(plan: Plan) -> None:
    """Make the folders that wait for public files, and the site files beside them."""
    from fedgram import modalities
    from fedgram.checks import start
    from fedgram.config.site import Reading
    from fedgram.config.targets import targets_of

    concepts: dict[str, list[str]] = {}
    for site in plan.sites:
        reading = Reading(columns=site.guess.columns, task=targets_of(site.guess.task))
        samples = modalities.load(site.guess.modality).read(site.path, reading)
        concepts.setdefault(site.guess.modality, []).extend({s.concept for s in samples} - {""})
    everything = sorted({name for names in concepts.values() for name in names})
    if not everything:
        raise ConfigError(
            "no site names concepts, of which folders for public files could be made",
            where=", ".join(str(site.path) for site in plan.sites),
            expected="a column `concept` beside the target, with the name of what each row shows",
            remedy="add it; or name public files that have one: --anchors FILE",
        )
    folder = start.folders_to_fill(plan, dict.fromkeys(concepts, everything))
    built = [plan.folder / start.ANCHORS / part for part in start.PARTS]
    start.write_sites(plan, built[0], built[1])
    console.print(
        f"\nwritten: site files in {plan.folder / start.RUN}, and folders for public files in {folder}/train and "
        f"{folder}/heldout\nput a few public files of each concept into them (other ones into heldout; never a "
        "site's own), then give this command again; or name labelled public files with --anchors",
        markup=False,
        soft_wrap=True,
    )


def _tell(name: str, path: Path, guess: Guess) -> None:
    console.print(f"{name}: {guess.modality}, {path}", markup=False, soft_wrap=True)
    for note in guess.notes:
        console.print(f"  {note}", markup=False, soft_wrap=True)


def _understood(entry: Entry, hints: dict[str, str]) -> Guess:
    """Understand a file; on a terminal its owner is asked where there is a choice."""
    from fedgram.data.guess import Undecided, understand

    modality = entry.modality
    while True:
        try:
            return understand(entry.path, modality, hints)
        except Undecided as choice:
            if not _can_ask():
                raise
            answer = typer.prompt(
                f"{entry.name}: {choice.problem}. {choice.what}? {', '.join(choice.choices[:20])}"
            )
            if choice.what == "modality":
                modality = answer
            else:
                hints[choice.what] = answer


def _site(entry: Entry, hints: Mapping[str, Mapping[str, str]], encoders: Mapping[str, str]) -> NewSite:
    from fedgram.checks.start import TOKENIZERS, NewSite

    guess = _understood(entry, said_for(entry.name, hints))
    tokenizer = encoders.get(entry.name) or TOKENIZERS.get(guess.modality)
    if tokenizer is None:
        raise ConfigError(
            f"no tokenizer for modality {guess.modality!r}",
            where=entry.name,
            remedy=f"--tokenizer {entry.name}=NAME",
        )
    return NewSite(name=entry.name, path=entry.path, guess=guess, tokenizer=tokenizer)


def _public(said: str, plan: Plan, hints: Mapping[str, Mapping[str, str]]) -> Path | Public:
    """A public file in the form of a site's data, or the folder of a set or of ``<modality>/<concept>/<file>``."""
    from dataclasses import replace

    from fedgram.anchors import MANIFEST
    from fedgram.anchors.public import Public

    modality, path = modality_of(said)
    folder = Path(path)
    below = {child.name for child in folder.iterdir() if child.is_dir()} if folder.is_dir() else set()
    if (folder / MANIFEST).is_file() or below >= {"train", "heldout"} or (below and below <= set(KNOWN)):
        return folder
    alike = [site for site in plan.sites if modality in (None, site.guess.modality)]
    known = {k: v for k, v in said_for(ANCHORS, hints).items() if k not in ("task", "group")}
    targets = [site.guess.columns.target for site in alike]
    if known.get("label") in targets and ANCHORS not in hints["label"]:
        del known["label"]  # said for the sites: what they learn are no concepts
    guess = _understood(
        Entry(ANCHORS, modality, folder), {**_concepts(folder, alike, known), **known, "group": "id"}
    )
    if guess.task != "classification":
        raise _no_concepts(folder, f"column {guess.label} has targets of {guess.task}")
    features = next((s.guess.features for s in plan.sites if s.guess.modality == guess.modality), ())
    drop = tuple(name for name in guess.columns.drop if name not in features)  # a site has decided for all
    guess = replace(guess, columns=replace(guess.columns, drop=drop))
    hidden = ("group", "split", "task", *(["no features"] if features else []))
    notes = tuple(note for note in guess.notes if not note.startswith(hidden))
    _tell(ANCHORS, folder, replace(guess, notes=notes))
    return Public(folder, guess, features, plan.licence, plan.source)


def _concepts(path: Path, sites: Sequence[NewSite], known: Mapping[str, str]) -> dict[str, str]:
    """The columns of concepts and texts of a site of the same modality, where the public table has them too."""
    from fedgram.data.sequences import is_sequence_file, labels_beside
    from fedgram.data.tables import read_table

    table = labels_beside(path) if is_sequence_file(path) else path
    if not table.is_file():
        return {}
    try:
        names = set(read_table(table).columns)
    except DataError:  # said when it is understood
        return {}
    for site in sites:
        concept, text, is_text = site.guess.columns.concept, site.guess.columns.text, site.guess.modality == "text"
        if concept in names and (not is_text or text in names):
            task = {"task": "classification"} if known.get("label", concept) == concept else {}
            return {"label": concept, **task, **({"text": text} if is_text else {})}
    tasks = {site.guess.task for site in sites}
    if tasks and "classification" not in tasks and "label" not in known:
        raise _no_concepts(path, f"the sites learn {', '.join(sorted(tasks))}")
    return {}


def _no_concepts(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"no column of concepts; {why}",
        where=path,
        expected="a column `concept` with the name of what each row shows, alike in all public files",
        remedy=f"add it, or name the column that has them: --label {ANCHORS}=COLUMN",
    )


def _can_ask() -> bool:
    """Whether somebody sits at a terminal."""
    return sys.stdin.isatty()


def _asked_sites() -> list[Entry]:
    if not _can_ask():
        raise ConfigError("no site", where="fedgram init", expected=_SITES)
    console.print("the data of each site: PATH, NAME:PATH or NAME:MODALITY:PATH; an empty line ends", markup=False)
    entries = []
    while answer := typer.prompt(f"site {len(entries) + 1}", default="", show_default=False):
        entries.append(entry_of(answer))
    return entries
