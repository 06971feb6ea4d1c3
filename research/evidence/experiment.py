"""One run: a method on a federation with a seed, and its measures."""

from __future__ import annotations

import importlib
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from fedgram.errors import ConfigError
from fedgram.methods import METHODS
from fedgram.records import GlobalState
from fedgram.sites.single import open_single
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from fedgram.training.outcome import Outcome
from fedgram.training.session import SiteSession

from research.evidence import central
from research.evidence.federations import EVEN, Federation, anchorsets, damage, kind_of
from research.evidence.federations.synthetic import BRIDGED, VICTIM, latents_of_anchors
from research.evidence.federations.synthetic import NAME as SYNTHETIC
from research.evidence.measure import measure, truth_alignment
from research.evidence.methods import CENTRAL, job_of
from research.rows import Row

# Of a table of results.
ORDER = ("split", "federation", "sites", "alpha", "broken", "pairs", "method", "seed")


@dataclass(frozen=True)
class Experiment:
    """A run to be carried out; its fields are the first columns of a table of results.

    Attributes:
        federation: one of the modules in :mod:`research.evidence.federations`.
        sites: how many.
        alpha: of the Dirichlet partition over concepts within a modality.
        broken: what is wrong with the federation on purpose, or ``nothing``.
        method: of :mod:`research.evidence.methods`.
        seed: of the partition, the initial weights and the batches.
        pairs: training samples that one site has in a second modality too; 0 is no bridge.
        split: ``test`` with held-out anchors; ``validation`` with one half of the training anchors for the other.
    """

    federation: str
    method: str
    seed: int
    sites: int = 4
    alpha: float = EVEN
    broken: str = "nothing"
    split: str = "test"
    pairs: int = 0


def run(experiment: Experiment, folder: Path) -> Row:
    """Train on a federation and measure: the row of one experiment.

    Args:
        folder: of the federations' files, which are written where they are missing.
    """
    federation = federation_of(experiment, folder)
    job = job_of(experiment.method, federation, experiment.seed)
    configs = {name: replace(config, methods=tuple(METHODS)) for name, config in federation.sites.items()}
    started = time.perf_counter()
    opened = {name: open_single(name, config, job) for name, config in configs.items()}
    ready = time.perf_counter()
    costs: Row = {}
    if experiment.method == CENTRAL:
        opened = central.train(opened)
    else:
        with tempfile.TemporaryDirectory() as temporary:
            sessions = {name: SiteSession(site, Path(temporary, name)) for name, site in opened.items()}
            costs = _costs(run_federation(sessions, job, Path(temporary, "server")), victim_of(federation))
    costs |= {"seconds": time.perf_counter() - ready, "seconds to open": ready - started}
    evaluations = {name: rounds.evaluation(site, experiment.split) for name, site in opened.items()}
    row = (
        measure(opened, evaluations, experiment.split, BRIDGED if experiment.federation == SYNTHETIC else None)
        | costs
    )
    if experiment.federation == SYNTHETIC:
        truth = {name: latents_of_anchors(federation, name, heldout=True) for name in opened}
        row["truth"] = mean(truth_alignment(evaluations[name], truth[name]) for name in opened)
    return row


def federation_of(experiment: Experiment, folder: Path) -> Federation:
    """The federation of an experiment, broken as it says.

    Raises:
        ConfigError, AnchorError: what cannot be built.
    """
    module = importlib.import_module(f"research.evidence.federations.{experiment.federation}")
    home, broken, seed = folder / experiment.federation, experiment.broken, experiment.seed
    made = {"sites": experiment.sites, "alpha": experiment.alpha, "seed": seed}
    if experiment.pairs and experiment.federation != SYNTHETIC:
        raise ConfigError(f"{experiment.pairs}", where="pairs", expected=f"0, or the federation {SYNTHETIC}")
    if experiment.federation == SYNTHETIC and not broken.endswith(" anchors left"):
        found = module.build(home, **made, broken=broken, pairs=experiment.pairs)
    else:
        made |= {"pairs": experiment.pairs} if experiment.pairs else {}
        found = _broken(module.build(home, **made), home, broken, seed)
    return anchorsets.halved_anchors(found, home) if experiment.split == "validation" else found


def _broken(federation: Federation, home: Path, broken: str, seed: int) -> Federation:
    if broken == "nothing":
        return federation
    victim = victim_of(federation)
    if broken.endswith(" anchors left"):
        return anchorsets.fewer_anchors(federation, home, int(broken.split()[0]))
    if broken == "shuffled anchors":
        return anchorsets.shuffle_anchors(federation, home, seed)
    if broken == "partial anchors":
        return anchorsets.partial_anchors(federation, home)
    if broken == "wrong concept anchors":
        return anchorsets.misplace_anchors(federation, home, kind_of(victim))
    if broken == "noisy site":
        return damage.noisy_site(federation, home, victim, seed)
    if broken == "mislabelled site":
        return damage.mislabelled_site(federation, home, victim, seed)
    raise KeyError(broken)


def victim_of(federation: Federation) -> str:
    """The name of the site that is spoilt in a federation that is broken by one."""
    return next((name for name in federation.sites if kind_of(name) == VICTIM), next(iter(federation.sites)))


def _costs(outcome: Outcome, victim: str) -> Row:
    """The bytes a site and round, the share of the updates that the mean keeps, and the weights of sites."""
    records = outcome.server.records
    sites = sorted({name for record in records for name in record.shares})
    row = {
        "bytes up": mean(sent for r in records for sent in r.payload_bytes.values()),
        "bytes down": float(state_bytes(outcome.server.state)),
    }
    norms = [(r.mean_update_norm, mean(r.update_norms.values())) for r in records]
    if all(own > 0 for _, own in norms):
        row["kept by the mean"] = mean(together / own for together, own in norms)
    for kind in sorted({kind_of(name) for name in sites}):
        own = [name for name in sites if kind_of(name) == kind]
        row[f"share/{kind}"] = mean(sum(r.shares.get(name, 0.0) for name in own) / len(own) for r in records)
    row["share of the victim"] = mean(r.shares.get(victim, 0.0) for r in records)
    return row


def state_bytes(state: GlobalState) -> int:
    """The bytes of the tensors that the server sends to a site in a round."""
    tensors = (*state.B.values(), *state.m.values(), *state.extra.values(), state.consensus)
    return sum(t.numel() * t.element_size() for t in tensors)


def quiet() -> None:
    """Give a run one core: several of them run at once, and results do not depend on how many."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
