"""One trial: a federation whose sites all promise one ε, or none, and what each of them predicts in the end."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from statistics import mean

from fedgram.config.job import JobConfig
from fedgram.config.privacy import PrivacyConfig
from fedgram.config.site import SiteConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.flare.jobs import settings
from fedgram.sites.single import SingleSite, open_single
from fedgram.training import rounds
from fedgram.training.loop import run_federation
from fedgram.training.session import SiteSession

from research.evidence.federations import Federation, carnivora, synthetic
from research.rows import Row

ORDER = ("federation", "line", "seed")
EPSILONS: Mapping[str, float] = {"ε = 8": 8.0, "ε = 3": 3.0, "ε = 1": 1.0}
HOME, OPEN = "home", "ε = ∞"
LINES = (HOME, OPEN, *EPSILONS)
DELTA = 1e-4  # the sites have at most 399 groups
BUDGET: Mapping[str, object] = {"rounds": 12, "local_steps": 2, "geometry_every": 4}
_LAYERS = 1  # of a pre-trained base
_SITES = 4


@dataclass(frozen=True)
class Trial:
    """A run to be carried out; its fields are the first columns of the table of results.

    Attributes:
        federation: synthetic or carnivora.
        line: of :data:`LINES`.
        seed: of the split, the initial weights, the batches and the noise.
    """

    federation: str
    line: str
    seed: int


def run(trial: Trial, folder: Path) -> Row:
    """Train the federation of a trial, and test every site.

    Args:
        folder: of the federations' files.
    """
    build = {"synthetic": synthetic.build, "carnivora": carnivora.build}[trial.federation]
    federation = build(folder / trial.federation, sites=_SITES, seed=trial.seed)
    job = job_of(federation, trial.seed)
    sites = {
        name: open_single(name, promising(config, trial, name), job) for name, config in federation.sites.items()
    }
    if trial.line == HOME:
        for site in sites.values():
            rounds.train_alone(site)
    else:
        with tempfile.TemporaryDirectory() as folder_of_run:
            sessions = {name: SiteSession(site, Path(folder_of_run, name)) for name, site in sites.items()}
            run_federation(sessions, job, Path(folder_of_run, "server"))
    return measured(sites)


def promising(config: SiteConfig, trial: Trial, site: str) -> SiteConfig:
    """A site's settings with the trial's promise; the secret follows from the seed."""
    if trial.line not in EPSILONS:
        return config
    secret = sha256(f"{trial.seed}/{site}".encode()).hexdigest()
    privacy = PrivacyConfig(epsilon=EPSILONS[trial.line], delta=DELTA)
    return replace(config, privacy=privacy, secret=secret)


def job_of(federation: Federation, seed: int) -> JobConfig:
    """GeoLoRA on a federation, with weights that no site is asked for."""
    plain = settings("geolora")
    plain["training"] = {**plain.get("training", {}), **BUDGET}
    plain["aggregation"] = {**plain.get("aggregation", {}), "weights": "uniform"}
    plain |= {"anchors": to_dict(federation.anchors), "heldout": to_dict(federation.heldout)}
    job = from_dict(JobConfig, plain | {"baseline": False, "seed": seed}, "privacy")
    backbone = federation.backbone
    return replace(job, backbone=backbone if backbone.layers is None else replace(backbone, layers=_LAYERS))


def measured(sites: Mapping[str, SingleSite]) -> Row:
    """The test accuracy of each site and over them, what the anchors alone would give, and the noise."""
    accuracies = {name: site.evaluate("test")["accuracy"] for name, site in sites.items()}
    row: Row = {"accuracy": mean(accuracies.values())}
    row |= {f"{name} accuracy": value for name, value in accuracies.items()}
    row |= {f"{name} groups": float(len({*site.data["train"].groups})) for name, site in sites.items()}
    floors = [found["own_anchors"] for site in sites.values() if "own_anchors" in (found := site.floors())]
    row |= {"own anchors": mean(floors)} if floors else {}
    promised = {name: site.guarantee for name, site in sites.items()}
    return row | {f"{name} noise": g.multiplier for name, g in promised.items() if g is not None}
