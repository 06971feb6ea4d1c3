"""One run of an attack: what the attacker knows, what the site promises, and what both views of it find."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from research.leakage import heldout, inversion, match, membership, optimised, proportions
from research.leakage.measures import Finding
from research.rows import Row

Attack = Callable[[str, float, int, Path], dict[tuple[str, str], Finding]]
VIEWS = ("own", "sum")  # what the server sees: the site's update, or the sum of four sites'
ORDER = ("attack", "knows", "epsilon", "seed", "view", "measure")


@dataclass(frozen=True)
class Run:
    """A run to be carried out; the first columns of the table.

    Attributes:
        attack: of :data:`ATTACKS`.
        knows: what the attacker knows, or what it has.
        epsilon: ε of the attacked sites; 0 is no differential privacy.
        seed: of the data, the sites' secrets and all draws.
    """

    attack: str
    knows: str
    epsilon: float
    seed: int


@dataclass(frozen=True)
class Line(Run):
    """A line of the table: one score of a run.

    Attributes:
        view: of :data:`VIEWS`.
        measure: the name of the score.
    """

    view: str
    measure: str


ATTACKS: Mapping[str, tuple[Attack, tuple[str, ...]]] = {  # with what the attacker may know, the most first
    "match": (match.attack, match.KNOWS),
    "inversion": (inversion.attack, inversion.KNOWS),
    "optimisation": (optimised.attack, optimised.KNOWS),
    "membership": (membership.attack, membership.KNOWS),
    "held-out anchors": (heldout.attack, heldout.KNOWS),
    "proportions": (proportions.attack, proportions.KNOWS),
}


def run(trial: Run, folder: Path) -> Row:
    """Carry a run out: its numbers by ``view|measure|column``.

    Args:
        folder: of the federations' files.
    """
    found = ATTACKS[trial.attack][0](trial.knows, trial.epsilon, trial.seed, folder)
    return {f"{view}|{measure}|{k}": float(v) for (view, measure), f in found.items() for k, v in vars(f).items()}


def lines(trial: Run, row: Row) -> dict[Line, Row]:
    """The lines of the table that a run gives."""
    found: dict[Line, Row] = {}
    for name, value in row.items():
        view, measure, column = name.split("|")
        found.setdefault(Line(**vars(trial), view=view, measure=measure), {})[column] = value
    return found
