"""One trial: a federation in which some sites lie under one rule, and what that cost the others."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from pathlib import Path
from statistics import mean

import torch
from fedgram.config.job import JobConfig
from fedgram.config.strict import from_dict, to_dict
from fedgram.core.cka import cka
from fedgram.core.gram import cosine_gram
from fedgram.errors import UpdateRejected
from fedgram.flare.jobs import settings
from fedgram.records import LabelledTokens, SiteUpdate
from fedgram.sites.single import SingleSite, open_single
from fedgram.training import rounds
from fedgram.training.server import Round, agree

from research.attacks.attacks import LIES, TARGET, Lie, Seen, triggered
from research.evidence.federations import Federation, carnivora, synthetic
from research.rows import Row
from research.worth import spaces

ABSENT, HONEST = "absent", "none"  # the liars' places: empty, or taken by honest sites
ORDER = ("federation", "sites", "liars", "attack", "rule", "seed")
RULES: Mapping[str, dict[str, object]] = {  # settings of aggregation
    "default": {},
    "plain mean": {"clip": 0.0, "max_share": 1.0},
    "clip 1": {"clip": 1.0},
    "trimmed mean": {"rule": "trimmed_mean"},
    "median": {"rule": "median"},
    "centred clipping": {"rule": "centred_clipping"},
    "mixing": {"rule": "mean", "mixing": True},
    "mixing, trimmed mean": {"rule": "trimmed_mean", "mixing": True},
    "median Ḡ": {"consensus": "median"},
}
BUDGET: Mapping[str, object] = {"rounds": 10, "local_steps": 4, "geometry_every": 4}
_LAYERS = 1  # of a pre-trained base


@dataclass(frozen=True)
class Trial:
    """A run to be carried out; its fields are the first columns of the table of results.

    Attributes:
        federation: synthetic or carnivora.
        sites: in all.
        liars: how many of them lie: the first ones.
        attack: of :data:`~research.attacks.attacks.LIES`, or ``absent`` or ``none``.
        rule: of :data:`RULES`.
        seed: of the split, the initial weights, the batches and the liars' draws.
    """

    federation: str
    sites: int
    liars: int
    attack: str
    rule: str
    seed: int


def run(trial: Trial, folder: Path) -> Row:
    """Train the federation of a trial, and measure its honest sites.

    Args:
        folder: of the federations' files.
    """
    federation, opened = _opened(trial.federation, trial.sites, trial.seed, folder)
    sites = {name: replace(site, data=dict(site.data)) for name, site in opened.items()}
    for site in sites.values():
        rounds.reset(site)
    job = job_of(federation, trial.rule, trial.seed)
    return measured(sites, job, [*sites][: trial.liars], trial.attack)


@lru_cache(maxsize=1)
def _opened(name: str, sites: int, seed: int, folder: Path) -> tuple[Federation, dict[str, SingleSite]]:
    """A federation and its sites, opened once for all rules and attacks; what a site does depends on no rule."""
    build = {"synthetic": synthetic.build, "carnivora": carnivora.build}[name]
    federation = build(folder / name, sites=sites, seed=seed)
    job = job_of(federation, "default", seed)
    found = {}
    for name, config in federation.sites.items():
        site = open_single(name, config, job)
        # Nothing is chosen on validation data, so none is measured.
        found[name] = replace(site, data={**site.data, "validation": _none_of(site.data["validation"])})
    return federation, found


def _none_of(data: LabelledTokens) -> LabelledTokens:
    none = slice(0, 0)
    return replace(
        data, tokens=data.tokens[none], targets=data.targets[none], concepts=data.concepts[none], groups=()
    )


def job_of(federation: Federation, rule: str, seed: int) -> JobConfig:
    """GeoLoRA on a federation, under a rule."""
    plain = settings("geolora")
    plain["training"] = {**plain.get("training", {}), **BUDGET}
    plain["aggregation"] = {**plain.get("aggregation", {}), **RULES[rule]}
    plain |= {"anchors": to_dict(federation.anchors), "heldout": to_dict(federation.heldout)}
    job = from_dict(JobConfig, plain | {"baseline": False, "seed": seed}, rule)
    backbone = federation.backbone
    return replace(job, backbone=backbone if backbone.layers is None else replace(backbone, layers=_LAYERS))


def measured(sites: Mapping[str, SingleSite], job: JobConfig, liars: list[str], attack: str) -> Row:
    """Train, and measure the honest sites at the end of the last round.

    Args:
        liars: the names of the sites that lie, or are absent.
    """
    truthful = {name: site for name, site in sites.items() if name not in liars}
    lie = None if attack in (ABSENT, HONEST) else LIES[attack]
    taking_part = dict(truthful) if attack == ABSENT else dict(sites)
    if lie:
        for name in liars:
            data = sites[name].data
            spoilt = {part: lie.spoils(data[part]) for part in ("fit", "train")}
            taking_part[name] = replace(sites[name], data={**data, **spoilt})
    state, refused = agree([rounds.introduce(site) for site in taking_part.values()], job)[0], 0
    shortened: list[float] = []
    for _ in range(job.training.rounds):
        updates = {name: rounds.local_round(site, state.state) for name, site in taking_part.items()}
        forged = _forged(updates, liars, lie, job.seed) if lie else updates
        current = Round(state, job, taking_part)
        for update in forged.values():
            with suppress(UpdateRejected):
                current.add(update)
        refused += len(current.rejected)
        state = current.close()
        shortened.append(sum(name in truthful for name in state.records[-1].shortened) / len(truthful))
    for site in truthful.values():
        rounds.adopt(site, state.state)
    return _row(truthful, job) | {"refused": refused, "honest shortened": mean(shortened)}


def _forged(updates: Mapping[str, SiteUpdate], liars: list[str], lie: Lie, seed: int) -> dict[str, SiteUpdate]:
    """The updates of a round, those of the liars as they send them."""
    honest = [update for name, update in updates.items() if name not in liars]
    sent = dict(updates)
    for place, name in enumerate(liars):
        generator = torch.Generator().manual_seed(seed * 10_000 + place * 1000 + updates[name].round)
        sent[name] = lie.sends(Seen(updates[name], honest, len(liars), generator))
    return sent


def _row(sites: Mapping[str, SingleSite], job: JobConfig) -> Row:
    tested = {name: rounds.evaluation(site) for name, site in sites.items()}
    space = spaces.place(sites, spaces.by_model)
    found = spaces.retrieval(space, spaces.consensus_of(space, job.anchors.slots), "frame")
    accuracies = [evaluation.metrics["accuracy"] for evaluation in tested.values()]
    return {
        "accuracy": mean(accuracies),
        "worst accuracy": min(accuracies),
        "r@1": found["r@1"],
        "cka": mean(_alignments(sites)),
        "backdoor": mean(_triggered(site) for site in sites.values()),
    }


def _alignments(sites: Mapping[str, SingleSite]) -> list[float]:
    """CKA between each two sites over the held-out anchors that both cover."""
    held = [(part, site.model.embed(part.tokens)) for site in sites.values() if (part := site.heldout)]
    found = []
    for (a, z), (b, other) in combinations(held, 2):
        common = sorted(set(a.slots) & set(b.slots))
        own, others = ([part.slots.index(slot) for slot in common] for part in (a, b))
        found.append(cka(cosine_gram(z[own]), cosine_gram(other[others])).item())
    return found


def _triggered(site: SingleSite) -> float:
    """The share of test samples that the trigger turns to the target class, of those of other classes."""
    data = site.data["test"]
    others = data.targets != TARGET
    answers = [
        site.outputs(replace(data.tokens, values=values))[others].argmax(1)
        for values in (data.tokens.values, triggered(data.tokens.values))
    ]
    return ((answers[1] == TARGET) & (answers[0] != TARGET)).double().mean().item()
