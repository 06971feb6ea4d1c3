"""The studies: trials that answer one question, and fill one table of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from research.worth.lines import LINES
from research.worth.trial import BROKEN, Trial

SEEDS = range(5)
TUNING_SEEDS = (100,)  # splits on which rates are chosen; no other study has them
FEDERATIONS = ("synthetic", "carnivora", "pathogens", "digits", "emoji")
TRUE_PAIRS = ("synthetic", "emoji")  # where things are known across modalities
SHOTS = (1, 2, 4, 8)
SKEW = 0.1
_SHOTS_TUNED = 4
_WITH_EVERY_LINE = 4  # shots
_SHORT = ("home", "ours")

Rates = Mapping[tuple[str, str], int]  # by federation and line


def tuning(federations: Sequence[str] = FEDERATIONS) -> Iterator[Trial]:
    """Every line that has a rate of its own, at all its rates, on splits that no other study has."""
    for seed, federation, (name, line) in product(TUNING_SEEDS, federations, LINES.items()):
        for rate in () if line.as_tuned else line.rates:
            yield Trial("few labels", federation, _SHOTS_TUNED, 0.0, name, rate, seed)


def few_labels(rates: Rates) -> Iterator[Trial]:
    """Few labels at every site: all lines at four shots, home and ours at the others."""
    for seed, shots in product(SEEDS, (_WITH_EVERY_LINE, *(s for s in SHOTS if s != _WITH_EVERY_LINE))):
        lines = tuple(LINES) if shots == _WITH_EVERY_LINE else _SHORT
        yield from _trials(rates, "few labels", FEDERATIONS, shots, 0.0, lines, seed)


def many_sites(rates: Rates) -> Iterator[Trial]:
    """Many sites of one modality: even and skewed."""
    for (sites, alpha), seed in product(((8, 0.0), (16, SKEW), (16, 0.0), (8, SKEW)), SEEDS):
        yield from _trials(rates, "many sites", FEDERATIONS, sites, alpha, _SHORT, seed)


def foreign_anchors(rates: Rates) -> Iterator[Trial]:
    """Anchors of other concepts than the tasks', and concepts without a label at a site."""
    for seed in SEEDS:
        yield from _trials(rates, "foreign anchors", TRUE_PAIRS, 0, 0.0, (*_SHORT, "paper"), seed)


def the_very_thing(rates: Rates) -> Iterator[Trial]:
    """Paired public anchors, and things that nobody paired."""
    for seed in SEEDS:
        yield from _trials(rates, "the very thing", TRUE_PAIRS, 0, 0.0, (*_SHORT, "paper"), seed)


def broken(rates: Rates) -> Iterator[Trial]:
    """Few labels where a site or the anchors are spoilt: no site should lose by taking part."""
    for seed, regime in product(SEEDS, BROKEN):
        yield from _trials(rates, regime, ("synthetic", "carnivora", "digits"), 4, 0.0, ("ours",), seed)


def _trials(
    rates: Rates,
    regime: str,
    federations: Sequence[str],
    level: int,
    alpha: float,
    lines: Sequence[str],
    seed: int,
) -> Iterator[Trial]:
    for federation, line in product(federations, lines):
        rate = rates[federation, LINES[line].as_tuned or line]
        yield Trial(regime, federation, level, alpha, line, rate, seed)


STUDIES: Mapping[str, Callable[[Rates], Iterator[Trial]]] = {
    "few-labels": few_labels,
    "many-sites": many_sites,
    "foreign-anchors": foreign_anchors,
    "the-very-thing": the_very_thing,
    "broken": broken,
}
