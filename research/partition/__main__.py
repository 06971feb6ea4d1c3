"""Questions and captions dealt to sites: ``python -m research.partition OUT …``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from fedgram.cli.console import console, plain_errors
from fedgram.data.captions import read_captions
from fedgram.data.vqa import read_vqa
from fedgram.errors import ConfigError

from research.partition import picture, shares

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    out: Annotated[Path, typer.Argument(help="new folder: one inside for each site, and who-has-what.png")],
    questions: Annotated[Path | None, typer.Option(help="folder of VQA v2's JSON files and pictures")] = None,
    captions: Annotated[Path | None, typer.Option(help="COCO captions (.json), or a table: path, text")] = None,
    sites: Annotated[int | None, typer.Option(help="number of sites")] = None,
    alpha: Annotated[float, typer.Option(help="Dirichlet: 0.1 nearly one kind a site, inf evenly")] = float("inf"),
    by: Annotated[str, typer.Option(help="kind (answer type) or concept")] = "kind",
    seed: Annotated[int, typer.Option(help="the same seed deals the same")] = 0,
    listed: Annotated[Path | None, typer.Option("--list", help="instead: a table with id and site")] = None,
) -> None:
    """Deal questions about pictures and captions to sites, to try a federation out.

    Shows who has what. With --list each item goes where the table says; else a Dirichlet deals, and no site is
    left empty.
    """
    with plain_errors():
        if (sites is None) == (listed is None):
            raise ConfigError("one of --sites and --list is needed", where="partition")
        if by not in shares.BY:
            raise ConfigError(f"{by!r}", where="--by", expected=" or ".join(shares.BY))
        asked = read_vqa(questions) if questions else []
        said = read_captions(captions) if captions else []
        if listed is not None:
            dealt = shares.deal_by_list(asked, said, listed)
        else:
            dealt = shares.deal(asked, said, sites or 0, alpha, seed, by)
        shares.write_shares(out, dealt)
        counts = shares.counts(dealt, by)
        title = f"by list, {by}" if listed else f"by {by}, α = {alpha:g}, seed {seed}"
        picture.draw(counts, out / "who-has-what.png", title)
        console.print(picture.table(counts))
        console.print(f"written to {out}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    app()
