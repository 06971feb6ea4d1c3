"""One trial: a federation of a regime with a seed, and the rows of all lines that are asked of it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from fedgram.records import SiteEvaluation
from fedgram.training import rounds
from fedgram.training.directory import token_means
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession

from research.evidence.federations import EVEN, Federation, anchorsets, damage, regimes
from research.evidence.federations.regimes import Regime
from research.rows import Row
from research.worth import spaces
from research.worth.lines import LINES, job_of, open_sites
from research.worth.spaces import Space

ORDER = ("regime", "federation", "level", "alpha", "line", "rate", "seed")  # of a table of results
_SCORES = ("accuracy", "gain", "kept_home", "kept_together", "kept_directory")


def _first(federation: Federation) -> str:
    """The name of the site that is spoilt."""
    return next(iter(federation.sites))


BROKEN: Mapping[str, Callable[[Federation, Path, int], Federation]] = {
    "noisy site": lambda found, folder, seed: damage.noisy_site(found, folder, _first(found), seed),
    "mislabelled site": lambda found, folder, seed: damage.mislabelled_site(found, folder, _first(found), seed),
    "shuffled anchors": anchorsets.shuffle_anchors,
}
SPOILT = ("noisy site", "mislabelled site")  # where one site has bad data, and the others have not


@dataclass(frozen=True)
class Trial:
    """A run to be carried out; its fields are the first columns of a table of results.

    Attributes:
        regime: ``few labels``, ``many sites``, ``foreign anchors`` or ``the very thing``; one of :data:`BROKEN` is
            that of few labels, spoilt on purpose.
        federation: of :mod:`research.evidence.federations`.
        level: shots of few labels, the number of many sites; 0 elsewhere.
        alpha: of many sites.
        line: of :data:`~research.worth.lines.LINES`.
        rate: of B, a multiple of the least.
        seed: of the split, the initial weights and the batches.
    """

    regime: str
    federation: str
    level: int
    alpha: float
    line: str
    rate: int
    seed: int


def regime_of(trial: Trial, folder: Path) -> Regime:
    """The federation of a trial, written below ``folder`` where it is missing."""
    name, seed = trial.federation, trial.seed
    if trial.regime == "few labels":
        return regimes.few_labels(name, folder, shots=trial.level, seed=seed)
    if trial.regime in BROKEN:
        whole = regimes.few_labels(name, folder, shots=trial.level, seed=seed)
        return replace(whole, federation=BROKEN[trial.regime](whole.federation, folder / "broken", seed))
    if trial.regime == "many sites":
        return regimes.many_sites(name, folder, sites=trial.level, alpha=trial.alpha or EVEN, seed=seed)
    if trial.regime == "foreign anchors":
        return regimes.foreign_anchors(name, folder, seed=seed)
    return regimes.very_thing(name, folder, seed=seed)


def run(trial: Trial, folder: Path) -> Row:
    """Train one line on the federation of a trial, and measure it.

    Args:
        folder: of the federations' files.
    """
    regime = regime_of(trial, folder)
    federation = regime.federation
    job = job_of(trial.line, federation, trial.seed, trial.rate)
    sites = open_sites(trial.line, federation, job)
    slots = job.anchors.slots
    if LINES[trial.line].job is None:
        for site in sites.values():
            rounds.train_alone(site)
        row = _scores({name: rounds.evaluation(site) for name, site in sites.items()})
        row |= _mean_of([site.floors() for site in sites.values()])
        row |= spaces.by_classes(sites)
        row |= _questions("frozen ", spaces.place(sites, token_means), slots, regime)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            sessions = {  # the regression is a floor here, so ``kept`` is of models alone
                name: SiteSession(site, Path(temporary, name), regression=False) for name, site in sites.items()
            }
            outcome = run_federation(sessions, job, Path(temporary, "server"))
        row = _scores(outcome.together)
        if outcome.alone:
            row |= {f"own rate {name}": value for name, value in _scores(outcome.alone).items()}
            row |= {f"kept {name}": value for name, value in _scores(outcome.kept).items()}
            spoilt = _first(federation) if trial.regime in SPOILT else None
            for which, left_out in (("", None), ("other ", spoilt)):
                gains = [_gain(e) for name, e in outcome.kept.items() if name != left_out]
                row |= dict(zip((f"worst {which}gain", f"worst {which}gain se"), min(gains), strict=True))
        row["bytes up"] = mean(sent for r in outcome.server.records for sent in r.payload_bytes.values())
    row["validation accuracy"] = mean(site.evaluate("validation")["accuracy"] for site in sites.values())
    return row | _questions("", spaces.place(sites, spaces.by_model), slots, regime)


def one_core() -> None:
    """Give a trial one core: several of them run at once, and results do not depend on how many."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)


def _questions(prefix: str, space: Space, slots: int, regime: Regime) -> Row:
    """The answers of a space to every question that its regime knows the truth of."""
    consensus = spaces.consensus_of(space, slots)
    row: Row = {}
    for readout in spaces.READOUTS:
        found = spaces.retrieval(space, consensus, readout)
        if regime.fine:
            found |= spaces.things(space, consensus, readout, regime.thing, regime.fine)
        row |= {f"{prefix}{name} by {readout}": value for name, value in found.items()}
    return row | {f"{prefix}{n}": v for n, v in spaces.naming(space, slots, regime.unseen).items()}


def _gain(kept: SiteEvaluation) -> tuple[float, float]:
    return kept.metrics["gain"], kept.metrics.get("gain_se", 0.0)


def _scores(tested: Mapping[str, SiteEvaluation]) -> Row:
    return _mean_of([{name: t.metrics[name] for name in _SCORES if name in t.metrics} for t in tested.values()])


def _mean_of(rows: Sequence[Row]) -> Row:
    """The mean of each column over the rows that have it."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: mean(row[name] for row in rows if name in row) for name in names}
