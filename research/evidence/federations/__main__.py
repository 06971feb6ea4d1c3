"""The size of every federation, and the accuracy of a probe at each of its sites.

python -m research.evidence.federations [NAME …] [--folder FOLDER] [--sites 4] [--alpha inf] [--seed 0]
"""

from __future__ import annotations

import argparse
import importlib
from dataclasses import astuple, fields
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from research.evidence.federations import EVEN, NAMES
from research.evidence.federations.probe import Probe, probe


def main() -> None:
    """Print a table for each federation."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", default=list(NAMES), metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--folder", type=Path, default=Path("~/.cache/fedgram/evidence").expanduser())
    parser.add_argument("--sites", type=int, default=4)
    parser.add_argument("--alpha", type=float, default=EVEN)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for name in options.names:
        module = importlib.import_module(f"research.evidence.federations.{name}")
        federation = module.build(
            options.folder / name, sites=options.sites, alpha=options.alpha, seed=options.seed
        )
        title = f"{federation.name}: {federation.anchors.slots} + {federation.heldout.slots} anchor slots"
        table = Table(*(field.name for field in fields(Probe)), title=title)
        for site in federation.sites:
            table.add_row(
                *(f"{v:.3f}" if isinstance(v, float) else str(v) for v in astuple(probe(federation, site)))
            )
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
